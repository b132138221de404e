//! How data of a schema lies in its bytes, to check them before they are decoded.
//!
//! apache-avro takes data that ends early for nulls, allocates what a count says (up to 512 MiB) before it reads on, and
//! follows a recursive schema as deep as the data goes. The walk here allocates nothing and goes 128 deep.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};

use crate::body::DecodeError;
use crate::config::ConfigError;

/// Values within each other. Each level takes a few stack frames of the decoder: serde's own limit for JSON is 128 too.
const DEEPEST: u32 = 128;

/// Items of no size (nulls) in arrays beyond one for each byte.
const SPARE_ITEMS: usize = 1024;

pub(super) struct Shape {
    /// The root is the first.
    nodes: Vec<Node>,
}

enum Node {
    Fixed(usize),
    /// An `int` or `long`.
    Varint,
    /// A length, and so many bytes.
    Sized,
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<usize>),
}

impl Shape {
    pub(super) fn of(schema: &Schema) -> Result<Self, ConfigError> {
        let mut building = Building { nodes: Vec::new(), names: HashMap::new() };
        building.add(schema, None)?;
        Ok(Self { nodes: building.nodes })
    }

    /// Whether the bytes are a datum of the schema, from the first to the last.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut walk = Walk { shape: self, bytes, at: 0, items: bytes.len() + SPARE_ITEMS };
        walk.pass(0, 0)?;
        if walk.at == bytes.len() { Ok(()) } else { Err(walk.wrong("goes on behind its end")) }
    }
}

struct Building {
    nodes: Vec<Node>,
    names: HashMap<Name, usize>,
}

impl Building {
    /// The place of the schema's node; `namespace`: of the record around it.
    fn add(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<usize, ConfigError> {
        if let Schema::Ref { name } = schema {
            let name = name.fully_qualified_name(namespace);
            let known = self.names.get(name.as_ref()).copied();
            return known.ok_or_else(|| ConfigError::new("schema", format!("the Avro type {name} is not defined")));
        }
        let place = self.nodes.len();
        self.nodes.push(Node::Fixed(0));
        let name = schema.name().map(|name| name.fully_qualified_name(namespace).into_owned());
        if let Some(name) = &name {
            self.names.insert(name.clone(), place);
        }
        let node = match schema {
            Schema::Null => Node::Fixed(0),
            Schema::Boolean => Node::Fixed(1),
            Schema::Float => Node::Fixed(4),
            Schema::Double => Node::Fixed(8),
            Schema::Duration(_) => Node::Fixed(12),
            Schema::Fixed(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => Node::Fixed(fixed.size),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Fixed(fixed) => Node::Fixed(fixed.size),
                InnerDecimalSchema::Bytes => Node::Sized,
            },
            Schema::Bytes
            | Schema::String
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes) => Node::Sized,
            Schema::Array(array) => Node::Array(self.add(&array.items, namespace)?),
            Schema::Map(map) => Node::Map(self.add(&map.types, namespace)?),
            Schema::Union(union) => Node::Union(self.add_all(union.variants(), namespace)?),
            Schema::Record(record) => {
                let inside = name.as_ref().and_then(Name::namespace);
                Node::Record(self.add_all(record.fields.iter().map(|field| &field.schema), inside)?)
            }
            Schema::Int
            | Schema::Long
            | Schema::Enum(_)
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos
            | Schema::Ref { .. } => Node::Varint,
        };
        self.nodes[place] = node;
        Ok(place)
    }

    fn add_all<'a>(
        &mut self,
        schemas: impl IntoIterator<Item = &'a Schema>,
        namespace: Option<&str>,
    ) -> Result<Vec<usize>, ConfigError> {
        schemas.into_iter().map(|schema| self.add(schema, namespace)).collect()
    }
}

struct Walk<'a> {
    shape: &'a Shape,
    bytes: &'a [u8],
    at: usize,
    /// How many more items arrays and maps may have.
    items: usize,
}

impl Walk<'_> {
    fn wrong(&self, what: &str) -> DecodeError {
        DecodeError::new(format!("Avro data that {what}, at byte {}", self.at))
    }

    fn pass(&mut self, node: usize, depth: u32) -> Result<(), DecodeError> {
        if depth > DEEPEST {
            return Err(self.wrong("is nested too deep"));
        }
        let shape = self.shape;
        match &shape.nodes[node] {
            Node::Fixed(size) => self.skip(*size),
            Node::Varint => self.varint().map(drop),
            Node::Sized => self.sized(),
            Node::Record(fields) => fields.iter().try_for_each(|field| self.pass(*field, depth + 1)),
            Node::Union(branches) => {
                let branch = usize::try_from(self.varint()?).ok().and_then(|index| branches.get(index));
                let branch = branch.ok_or_else(|| self.wrong("names a branch that its union has not got"))?;
                self.pass(*branch, depth + 1)
            }
            Node::Array(item) => self.blocks(|walk| walk.pass(*item, depth + 1)),
            Node::Map(value) => self.blocks(|walk| {
                walk.sized()?;
                walk.pass(*value, depth + 1)
            }),
        }
    }

    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
        loop {
            let count = self.varint()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's size follows, for readers that pass over it.
                self.varint()?;
            }
            let left = usize::try_from(count.unsigned_abs()).ok().and_then(|count| self.items.checked_sub(count));
            self.items = left.ok_or_else(|| self.wrong("counts more items than it has bytes"))?;
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn sized(&mut self) -> Result<(), DecodeError> {
        let size = usize::try_from(self.varint()?).map_err(|_| self.wrong("has a length below zero"))?;
        self.skip(size)
    }

    fn skip(&mut self, size: usize) -> Result<(), DecodeError> {
        if size > self.bytes.len() - self.at {
            return Err(self.wrong("ends too early"));
        }
        self.at += size;
        Ok(())
    }

    /// A zigzag number of at most ten bytes.
    fn varint(&mut self) -> Result<i64, DecodeError> {
        let mut number = 0_u64;
        for (place, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.at += place + 1;
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        let what = if self.bytes.len() - self.at < 10 { "ends too early" } else { "has a number beyond 64 bits" };
        Err(self.wrong(what))
    }
}
