//! Avro's values as JSON and back, by their schema, so that what is shown can be written again as it was.
//!
//! A union's value stands bare where reading it back finds the same branch, else in an object under the branch's name.
//! Bytes are text of code points up to U+00FF (as in Avro's own JSON), decimals are text, times are numbers as encoded.

use std::cell::Cell;
use std::fmt;

use apache_avro::schema::{DecimalSchema, EnumSchema, RecordSchema, ResolvedSchema, UnionSchema};
use apache_avro::types::Value;
use apache_avro::{BigDecimal, Days, Decimal, Duration, Millis, Months, Schema, Uuid};
use serde_json::{Map, Value as Json, json};

/// Steps of one conversion. Unions of unions are tried branch by branch: a schema could be made to take for ever.
const STEPS: u32 = 1_000_000;

/// Digits of a decimal, its exponent's included.
const DIGITS: i64 = 10_000;

/// Where a value and its schema part: the place by names of fields, and what is expected there.
#[derive(Debug)]
pub(super) struct Misfit {
    place: String,
    expected: String,
}

impl Misfit {
    fn new(expected: impl Into<String>) -> Self {
        Self { place: String::new(), expected: expected.into() }
    }

    fn within(mut self, outer: &str) -> Self {
        let dot = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        self.place = format!("{outer}{dot}{}", self.place);
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{} is expected", self.expected),
            place => write!(f, "{place}: {} is expected", self.expected),
        }
    }
}

/// Converts by one schema.
pub(super) struct Mapping<'a> {
    root: &'a Schema,
    resolved: ResolvedSchema<'a>,
    steps: Cell<u32>,
}

impl<'a> Mapping<'a> {
    /// `None`: the schema lacks types that it names.
    pub(super) fn of(root: &'a Schema) -> Option<Self> {
        Some(Self { root, resolved: ResolvedSchema::new(root).ok()?, steps: Cell::new(STEPS) })
    }

    pub(super) fn to_json(&self, value: Value) -> Result<Json, Misfit> {
        self.show(value, self.root, None)
    }

    pub(super) fn to_value(&self, json: &Json) -> Result<Value, Misfit> {
        self.read(json, self.root, None)
    }

    fn step(&self) -> Result<(), Misfit> {
        let left = self.steps.get().checked_sub(1).ok_or_else(|| Misfit::new("a value of less ambiguous unions"))?;
        self.steps.set(left);
        Ok(())
    }

    /// The schema that a reference names, or itself.
    fn referred(&self, schema: &'a Schema, space: Option<&str>) -> Result<&'a Schema, Misfit> {
        let Schema::Ref { name } = schema else { return Ok(schema) };
        let name = name.fully_qualified_name(space);
        self.resolved.get_names().get(name.as_ref()).copied().ok_or_else(|| Misfit::new(format!("the type {name}")))
    }

    fn show(&self, value: Value, schema: &'a Schema, space: Option<&'a str>) -> Result<Json, Misfit> {
        self.step()?;
        let schema = self.referred(schema, space)?;
        Ok(match (value, schema) {
            (Value::Union(index, inner), Schema::Union(union)) => {
                let branch = union.variants().get(index as usize).ok_or_else(|| Misfit::new("a branch"))?;
                let shown = self.show(*inner, branch, space)?;
                match self.branch(&shown, union, space) {
                    Ok((found, _)) if found == index => shown,
                    _ => json!({ tag(branch): shown }),
                }
            }
            (Value::Record(fields), Schema::Record(record)) => {
                let inside = record.name.namespace().or(space);
                let mut object = Map::new();
                for ((name, value), field) in fields.into_iter().zip(&record.fields) {
                    let shown = self.show(value, &field.schema, inside).map_err(|e| e.within(&name))?;
                    object.insert(name, shown);
                }
                Json::Object(object)
            }
            (Value::Array(items), Schema::Array(array)) => {
                let shown = items.into_iter().map(|item| self.show(item, &array.items, space));
                Json::Array(shown.collect::<Result<_, _>>().map_err(|e| e.within("[]"))?)
            }
            (Value::Map(items), Schema::Map(map)) => {
                let shown = items.into_iter().map(|(key, item)| Ok((key, self.show(item, &map.types, space)?)));
                Json::Object(shown.collect::<Result<_, _>>().map_err(|e: Misfit| e.within("[]"))?)
            }
            (Value::Decimal(decimal), Schema::Decimal(schema)) => {
                let scale = i64::try_from(schema.scale).map_err(|_| Misfit::new("a smaller scale"))?;
                Json::String(BigDecimal::new(decimal.into(), scale).to_string())
            }
            (value, _) => plain(value)?,
        })
    }

    /// The first branch that takes the value, or the one that it names.
    fn branch(&self, json: &Json, union: &'a UnionSchema, space: Option<&'a str>) -> Result<(u32, Value), Misfit> {
        let named = json.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next());
        for (index, branch) in (0_u32..).zip(union.variants()) {
            if let Some((_, inner)) = named.filter(|(name, _)| **name == tag(branch))
                && let Ok(value) = self.read(inner, branch, space)
            {
                return Ok((index, value));
            }
        }
        let mut only = None;
        for (index, branch) in (0_u32..).zip(union.variants()) {
            match self.read(json, branch, space) {
                Ok(value) => return Ok((index, value)),
                // Of an optional field the branch that is not null knows what is wrong.
                Err(misfit) if union.variants().len() == 2 && !matches!(branch, Schema::Null) => only = Some(misfit),
                Err(_) => {}
            }
        }
        let names: Vec<String> = union.variants().iter().map(tag).collect();
        Err(only.unwrap_or_else(|| Misfit::new(format!("one of {}", names.join(", ")))))
    }

    fn read(&self, json: &Json, schema: &'a Schema, space: Option<&'a str>) -> Result<Value, Misfit> {
        self.step()?;
        let schema = self.referred(schema, space)?;
        match schema {
            Schema::Union(union) => {
                self.branch(json, union, space).map(|(index, value)| Value::Union(index, Box::new(value)))
            }
            Schema::Record(record) => self.record(json, record, record.name.namespace().or(space)),
            Schema::Array(array) => {
                let items = json.as_array().ok_or_else(|| Misfit::new("an array"))?;
                let items = items.iter().map(|item| self.read(item, &array.items, space));
                Ok(Value::Array(items.collect::<Result<_, _>>().map_err(|e| e.within("[]"))?))
            }
            Schema::Map(map) => {
                let items = json.as_object().ok_or_else(|| Misfit::new("an object"))?;
                let items = items.iter().map(|(key, item)| Ok((key.clone(), self.read(item, &map.types, space)?)));
                Ok(Value::Map(items.collect::<Result<_, _>>().map_err(|e: Misfit| e.within("[]"))?))
            }
            Schema::Enum(symbols) => symbol(json, symbols),
            Schema::Decimal(schema) => decimal(json, schema),
            _ => scalar(json, schema),
        }
    }

    fn record(&self, json: &Json, record: &'a RecordSchema, space: Option<&'a str>) -> Result<Value, Misfit> {
        let object = json.as_object().ok_or_else(|| Misfit::new(format!("an object ({})", record.name)))?;
        // A name that the schema has not got may be data: it is not told.
        if object.keys().any(|key| record.fields.iter().all(|field| field.name != *key)) {
            return Err(Misfit::new(format!("no other field than those of {}", record.name)));
        }
        let fields = record.fields.iter().map(|field| {
            let given = object.get(&field.name).or(field.default.as_ref());
            let value = match given {
                Some(given) => self.read(given, &field.schema, space),
                None => Err(Misfit::new("a value (there is no default)")),
            };
            Ok((field.name.clone(), value.map_err(|e| e.within(&field.name))?))
        });
        fields.collect::<Result<_, _>>().map(Value::Record)
    }
}

/// The name under which a branch of a union stands, as in Avro's own JSON.
fn tag(schema: &Schema) -> String {
    match schema.name() {
        Some(name) => name.fullname(None),
        None => match schema {
            Schema::Null => "null",
            Schema::Boolean => "boolean",
            Schema::Int | Schema::Date | Schema::TimeMillis => "int",
            Schema::Float => "float",
            Schema::Double => "double",
            Schema::String | Schema::Uuid(_) => "string",
            Schema::Bytes | Schema::Decimal(_) | Schema::BigDecimal => "bytes",
            Schema::Array(_) => "array",
            Schema::Map(_) => "map",
            _ => "long",
        }
        .to_owned(),
    }
}

fn plain(value: Value) -> Result<Json, Misfit> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Boolean(b) => b.into(),
        Value::Int(n) | Value::Date(n) | Value::TimeMillis(n) => n.into(),
        Value::Long(n)
        | Value::TimeMicros(n)
        | Value::TimestampMillis(n)
        | Value::TimestampMicros(n)
        | Value::TimestampNanos(n)
        | Value::LocalTimestampMillis(n)
        | Value::LocalTimestampMicros(n)
        | Value::LocalTimestampNanos(n) => n.into(),
        // By its own digits, not those of the double next to it.
        Value::Float(x) if x.is_finite() => x.to_string().parse::<f64>().map_or(Json::Null, Json::from),
        Value::Float(x) => not_finite(f64::from(x)),
        Value::Double(x) if x.is_finite() => x.into(),
        Value::Double(x) => not_finite(x),
        Value::String(text) | Value::Enum(_, text) => text.into(),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => bytes.into_iter().map(char::from).collect::<String>().into(),
        Value::BigDecimal(n) => n.to_string().into(),
        Value::Uuid(uuid) => uuid.to_string().into(),
        Value::Duration(d) => {
            json!({ "months": u32::from(d.months()), "days": u32::from(d.days()), "millis": u32::from(d.millis()) })
        }
        Value::Union(..) | Value::Array(_) | Value::Map(_) | Value::Record(_) | Value::Decimal(_) => {
            return Err(Misfit::new("a value of the schema"));
        }
    })
}

fn not_finite(x: f64) -> Json {
    Json::from(if x.is_nan() {
        "NaN"
    } else if x > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    })
}

fn symbol(json: &Json, schema: &EnumSchema) -> Result<Value, Misfit> {
    let place = json.as_str().and_then(|text| schema.symbols.iter().position(|symbol| symbol == text));
    let place = place.and_then(|place| Some((u32::try_from(place).ok()?, schema.symbols[place].clone())));
    place
        .map(|(index, symbol)| Value::Enum(index, symbol))
        .ok_or_else(|| Misfit::new(format!("one of {}", schema.name)))
}

/// Text or a number, with no more digits than are sensible.
fn number(json: &Json) -> Result<BigDecimal, Misfit> {
    let text = match json {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        _ => return Err(Misfit::new("a decimal number, as text")),
    };
    let number = text.parse::<BigDecimal>().ok().filter(|_| text.len() <= DIGITS as usize);
    number
        .filter(|number| number.as_bigint_and_exponent().1.abs() <= DIGITS)
        .ok_or_else(|| Misfit::new("a decimal number, as text"))
}

fn decimal(json: &Json, schema: &DecimalSchema) -> Result<Value, Misfit> {
    let number = number(json)?;
    let scale = i64::try_from(schema.scale).ok().filter(|scale| *scale <= DIGITS);
    let scaled = scale.map(|scale| number.with_scale(scale)).filter(|scaled| *scaled == number);
    let scaled = scaled.ok_or_else(|| Misfit::new(format!("a number of at most {} decimal places", schema.scale)))?;
    Ok(Value::Decimal(Decimal::from(scaled.as_bigint_and_exponent().0.to_signed_bytes_be())))
}

fn scalar(json: &Json, schema: &Schema) -> Result<Value, Misfit> {
    let int =
        || json.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| Misfit::new("a whole number of 32 bits"));
    let long = || json.as_i64().ok_or_else(|| Misfit::new("a whole number of 64 bits"));
    Ok(match schema {
        Schema::Null => json.as_null().map(|()| Value::Null).ok_or_else(|| Misfit::new("null"))?,
        Schema::Boolean => Value::Boolean(json.as_bool().ok_or_else(|| Misfit::new("true or false"))?),
        Schema::Int => Value::Int(int()?),
        Schema::Date => Value::Date(int()?),
        Schema::TimeMillis => Value::TimeMillis(int()?),
        Schema::Long => Value::Long(long()?),
        Schema::TimeMicros => Value::TimeMicros(long()?),
        Schema::TimestampMillis => Value::TimestampMillis(long()?),
        Schema::TimestampMicros => Value::TimestampMicros(long()?),
        Schema::TimestampNanos => Value::TimestampNanos(long()?),
        Schema::LocalTimestampMillis => Value::LocalTimestampMillis(long()?),
        Schema::LocalTimestampMicros => Value::LocalTimestampMicros(long()?),
        Schema::LocalTimestampNanos => Value::LocalTimestampNanos(long()?),
        #[expect(clippy::cast_possible_truncation, reason = "to the nearest, as every reader of decimals does")]
        Schema::Float => Value::Float(real(json)? as f32),
        Schema::Double => Value::Double(real(json)?),
        Schema::String => Value::String(text(json)?.to_owned()),
        Schema::Uuid(_) => Value::Uuid(Uuid::parse_str(text(json)?).map_err(|_| Misfit::new("a UUID"))?),
        Schema::Bytes => Value::Bytes(bytes(json)?),
        Schema::Fixed(fixed) => {
            let bytes = Some(bytes(json)?).filter(|bytes| bytes.len() == fixed.size);
            Value::Fixed(fixed.size, bytes.ok_or_else(|| Misfit::new(format!("{} bytes, as text", fixed.size)))?)
        }
        Schema::BigDecimal => Value::BigDecimal(number(json)?),
        Schema::Duration(_) => {
            let part = |name: &str| json[name].as_u64().and_then(|n| u32::try_from(n).ok());
            let parts = (part("months"), part("days"), part("millis"));
            let (Some(months), Some(days), Some(millis)) = parts else {
                return Err(Misfit::new("an object of months, days and millis"));
            };
            Value::Duration(Duration::new(Months::new(months), Days::new(days), Millis::new(millis)))
        }
        _ => return Err(Misfit::new("a value of the schema")),
    })
}

fn real(json: &Json) -> Result<f64, Misfit> {
    match json.as_str() {
        Some("NaN") => Ok(f64::NAN),
        Some("Infinity") => Ok(f64::INFINITY),
        Some("-Infinity") => Ok(f64::NEG_INFINITY),
        _ => json.as_f64().ok_or_else(|| Misfit::new("a number")),
    }
}

fn text(json: &Json) -> Result<&str, Misfit> {
    json.as_str().ok_or_else(|| Misfit::new("text"))
}

fn bytes(json: &Json) -> Result<Vec<u8>, Misfit> {
    let bytes = text(json)?.chars().map(u8::try_from).collect::<Result<_, _>>();
    bytes.map_err(|_| Misfit::new("bytes, as text of code points up to U+00FF"))
}
