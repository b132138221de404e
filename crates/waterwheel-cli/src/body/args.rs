//! Options that say what keys and values are.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use waterwheel::registry::Registry;

use super::BodyFormat;
use super::settings::RegistrySettings;
use crate::exit::{Exit, Failure, say};
use crate::file::load_registry;

/// What is done about a record that cannot be read or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    Stop,
    Skip,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Formats")]
pub(crate) struct FormatArgs {
    /// What keys are [default: raw]
    #[arg(long, value_enum, value_name = "FORMAT")]
    key_format: Option<BodyFormat>,
    /// What values are [default: raw]
    #[arg(long, value_enum, value_name = "FORMAT")]
    value_format: Option<BodyFormat>,
    /// The same, as kcat takes it: avro, or key=avro,value=json; repeatable
    #[arg(short = 's', value_name = "[PART=]FORMAT", value_delimiter = ',')]
    serde: Vec<String>,
    /// Address of the schema registry [env: WATERWHEEL_REGISTRY]
    #[arg(short, long, value_name = "URL")]
    registry: Option<String>,
    /// File whose [registry] says how it is reached, such as a worker file
    #[arg(long, value_name = "FILE")]
    registry_config: Option<PathBuf>,
}

/// The options, made out.
pub(crate) struct Formats {
    pub(crate) key: BodyFormat,
    pub(crate) value: BodyFormat,
    pub(crate) registry: Option<Registry>,
}

impl FormatArgs {
    pub(crate) fn formats(&self) -> Result<Formats, Failure> {
        let (mut key, mut value) = (self.key_format, self.value_format);
        for text in &self.serde {
            let (part, format) = text.split_once('=').map_or((None, text.as_str()), |(part, f)| (Some(part), f));
            let known = || BodyFormat::from_str(format, false).ok();
            let (Some(format), true) = (known(), matches!(part, None | Some("key" | "value"))) else {
                return Err(Failure::new(Exit::Usage, format!("-s {text}: is not known")).hint(
                    "write it as -s avro, -s key=utf8 or -s value=json; formats: raw, utf8, json, avro, protobuf",
                ));
            };
            let parts = [(&mut key, "key"), (&mut value, "value")];
            for (known, _) in parts.into_iter().filter(|(_, name)| part.is_none_or(|part| part == *name)) {
                if known.replace(format).is_some_and(|before| before != format) {
                    return Err(Failure::new(Exit::Usage, format!("-s {text}: another format was given already")));
                }
            }
        }
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let registry = if key.knows_registries() || value.knows_registries() {
            self.registry()?
        } else if self.registry.is_some() || self.registry_config.is_some() {
            return Err(Failure::new(Exit::Usage, "a registry is named, and no format that has schemas")
                .hint("add --value-format avro, protobuf or json"));
        } else {
            None
        };
        Ok(Formats { key, value, registry })
    }

    /// The file's or the environment's; the option names another address.
    fn registry(&self) -> Result<Option<Registry>, Failure> {
        let mut settings = match &self.registry_config {
            Some(path) => load_registry(path).map_err(|errors| {
                errors.iter().for_each(say);
                Failure::silent(Exit::Usage)
            })?,
            None => RegistrySettings::from_env()?,
        };
        if let Some(url) = &self.registry {
            settings.url = Some(url.clone());
        }
        match settings.url {
            Some(_) => Ok(Some(settings.build()?)),
            None => Ok(None),
        }
    }
}
