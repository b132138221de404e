//! Protobuf: generated messages, and messages known by their descriptors alone.
//!
//! [`Protobuf`] is a body of a generated message (prost) with nothing around it. With a schema registry, where the value
//! begins with the schema's id, use `registry::Registry::protobuf` instead.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, FileDescriptor, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::{DecodeError, Encode, EncodeError, FromBytes};
use crate::config::ConfigError;

/// A generated Protobuf message. A null is a failure (`Option<Protobuf<M>>` takes it); no bytes are the default message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Protobuf<M>(pub M);

impl<M: Message + Default + 'static> FromBytes for Protobuf<M> {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, DecodeError> {
        decode(bytes.ok_or_else(|| DecodeError::null("a Protobuf message"))?).map(Protobuf)
    }
}

impl<M: Message> Encode for Protobuf<M> {
    fn encode(&self) -> Result<Option<Vec<u8>>, EncodeError> {
        Ok(Some(self.0.encode_to_vec()))
    }
}

impl<M> Deref for Protobuf<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.0
    }
}

impl<M> fmt::Debug for Protobuf<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protobuf(..)")
    }
}

/// Prost's error names fields and wire types, no values.
pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|e| DecodeError::new(e.to_string()))
}

/// A compiled Protobuf schema: one file, with what it imports. Cheap to clone.
#[derive(Clone)]
pub struct ProtobufSchema(Arc<FileDescriptor>);

/// The name of the file that a schema's text is compiled as, which nothing imports.
const MAIN: &str = "schema.proto";

impl ProtobufSchema {
    /// Compiles the text of a `.proto` file, or a `FileDescriptorProto` in base64, as registries take both. `imports` has the
    /// files that it imports, name and text; Google's own (`google/protobuf/...`) are known.
    pub fn parse(text: &str, imports: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Self, ConfigError> {
        let mut files = BTreeMap::from([(MAIN.to_owned(), text.to_owned())]);
        files.extend(imports.iter().map(|(name, text)| (name.as_ref().to_owned(), text.as_ref().to_owned())));
        let mut resolver = ChainFileResolver::new();
        resolver.add(Files(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler.open_file(MAIN).map_err(|e| unusable(&e.to_string()))?;
        let file = compiler.descriptor_pool().get_file_by_name(MAIN);
        file.map(|file| Self(Arc::new(file))).ok_or_else(|| unusable("the file is empty"))
    }

    /// A schema of a descriptor set, as `protoc --descriptor_set_out --include_imports` and prost-build write them; `file` is
    /// the name of the file in it.
    pub fn from_descriptor_set(bytes: &[u8], file: &str) -> Result<Self, ConfigError> {
        let pool = DescriptorPool::decode(bytes).map_err(|e| unusable(&e.to_string()))?;
        let file = pool.get_file_by_name(file).ok_or_else(|| unusable("the set has no file of that name"))?;
        Ok(Self(Arc::new(file)))
    }

    /// The full names of all messages that the file defines, nested ones behind those that they are in.
    pub fn messages(&self) -> Vec<String> {
        fn collect(message: MessageDescriptor, names: &mut Vec<String>) {
            names.push(message.full_name().to_owned());
            message.child_messages().filter(|child| !child.is_map_entry()).for_each(|child| collect(child, names));
        }
        let mut names = Vec::new();
        self.0.messages().for_each(|message| collect(message, &mut names));
        names
    }

    /// Whether the file defines more than one message, nested ones not counted.
    #[cfg(feature = "schema-registry")]
    pub(crate) fn has_several(&self) -> bool {
        self.0.messages().len() > 1
    }

    /// The message that these indexes lead to: of the file's messages, then of those nested in that one, and so on.
    pub(crate) fn at(&self, indexes: &[usize]) -> Result<MessageDescriptor, DecodeError> {
        let gone = || DecodeError::new("a Protobuf message that its schema has not got");
        let (first, nested) = indexes.split_first().ok_or_else(gone)?;
        let first = self.0.messages().nth(*first).ok_or_else(gone)?;
        nested.iter().try_fold(first, |message, index| message.child_messages().nth(*index)).ok_or_else(gone)
    }

    /// The indexes that lead to the message of that full name; without a name, to the file's first.
    pub(crate) fn path_of(&self, name: Option<&str>) -> Result<Vec<usize>, EncodeError> {
        let Some(name) = name else {
            return match self.0.messages().len() {
                0 => Err(EncodeError::new("the Protobuf schema defines no message")),
                _ => Ok(vec![0]),
            };
        };
        let message = self.0.parent_pool().get_message_by_name(name);
        let message = message.filter(|message| message.parent_file() == *self.0);
        let message = message.ok_or_else(|| EncodeError::new(format!("the Protobuf schema has no message {name}")))?;
        // A descriptor's path: the number of the field that messages are in, and an index, again and again.
        Ok(message.path().iter().skip(1).step_by(2).filter_map(|index| usize::try_from(*index).ok()).collect())
    }
}

impl fmt::Debug for ProtobufSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtobufSchema({})", self.messages().join(", "))
    }
}

/// Decodes a message known by its descriptor into JSON, by Protobuf's own mapping: 64-bit numbers are text, bytes base64.
/// Fields that the descriptor has not got are left out.
pub fn decode_json(message: &MessageDescriptor, bytes: &[u8]) -> Result<serde_json::Value, DecodeError> {
    let decoded = DynamicMessage::decode(message.clone(), bytes).map_err(|e| DecodeError::new(e.to_string()))?;
    serde_json::to_value(&decoded)
        .map_err(|_| DecodeError::new(format!("{} has a value that JSON cannot hold", message.full_name())))
}

/// Encodes JSON as a message known by its descriptor. Fields that it has not got are an error.
pub fn encode_json(message: &MessageDescriptor, json: &serde_json::Value) -> Result<Vec<u8>, EncodeError> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic = DynamicMessage::deserialize_with_options(message.clone(), json, &options);
    // The error's text may quote the value.
    let dynamic = dynamic.map_err(|_| EncodeError::new(format!("JSON that does not fit {}", message.full_name())))?;
    Ok(dynamic.encode_to_vec())
}

fn unusable(why: &str) -> ConfigError {
    ConfigError::new("schema", format!("not a usable Protobuf schema: {why}"))
}

struct Files(BTreeMap<String, String>);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        let binary = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
        match binary.and_then(|binary| FileDescriptorProto::decode(binary.as_slice()).ok()) {
            Some(descriptor) => {
                Ok(File::from_file_descriptor_proto(FileDescriptorProto { name: Some(name.to_owned()), ..descriptor }))
            }
            None => File::from_source(name, text),
        }
    }
}

#[cfg(test)]
mod tests;
