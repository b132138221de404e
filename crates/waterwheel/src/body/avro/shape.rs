//! How data of a schema lies in its bytes, to check them before they are decoded.
//!
//! apache-avro takes data that ends early for nulls, allocates what a count says (up to 512 MiB) before it reads on, and
//! follows a recursive schema as deep as the data goes. The walk here allocates nothing and goes 128 deep: by a plan
//! of the schema in which names are places, and what holds no values stands where it is held.

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
    root: Step,
    nodes: Vec<Node>,
}

/// What comes next in the bytes.
#[derive(Clone, Copy)]
enum Step {
    Fixed(usize),
    /// An `int` or `long`.
    Varint,
    /// A length, and so many bytes.
    Sized,
    /// Values within a value: the place of its node.
    Within(usize),
}

enum Node {
    Array(Step),
    Map(Step),
    Union(Vec<Step>),
    /// Its fields; those of fixed sizes that follow each other are one step.
    Record(Vec<Step>),
}

/// What is wrong with the data.
struct Fault(&'static str);

impl Shape {
    pub(super) fn of(schema: &Schema) -> Result<Self, ConfigError> {
        let mut building = Building { nodes: Vec::new(), names: HashMap::new() };
        let root = building.add(schema, None)?;
        Ok(Self { root, nodes: building.nodes })
    }

    /// Whether the bytes are a datum of the schema, from the first to the last.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut walk = Walk { nodes: &self.nodes, rest: bytes, items: bytes.len() + SPARE_ITEMS };
        let passed = walk.step(self.root, 0);
        let whole = passed.and_then(|()| walk.rest.is_empty().then_some(()).ok_or(Fault("goes on behind its end")));
        whole.map_err(|Fault(what)| {
            DecodeError::new(format!("Avro data that {what}, at byte {}", bytes.len() - walk.rest.len()))
        })
    }
}

struct Building {
    nodes: Vec<Node>,
    names: HashMap<Name, Step>,
}

impl Building {
    /// The way to pass the schema's data; `namespace`: of the record around it.
    fn add(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<Step, ConfigError> {
        if let Schema::Ref { name } = schema {
            let name = name.fully_qualified_name(namespace);
            let known = self.names.get(name.as_ref()).copied();
            return known.ok_or_else(|| ConfigError::new("schema", format!("the Avro type {name} is not defined")));
        }
        let name = schema.name().map(|name| name.fully_qualified_name(namespace).into_owned());
        let step = match schema {
            Schema::Null => Step::Fixed(0),
            Schema::Boolean => Step::Fixed(1),
            Schema::Float => Step::Fixed(4),
            Schema::Double => Step::Fixed(8),
            Schema::Duration(_) => Step::Fixed(12),
            Schema::Fixed(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => Step::Fixed(fixed.size),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Fixed(fixed) => Step::Fixed(fixed.size),
                InnerDecimalSchema::Bytes => Step::Sized,
            },
            Schema::Bytes
            | Schema::String
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes) => Step::Sized,
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
            | Schema::Ref { .. } => Step::Varint,
            Schema::Array(array) => {
                let item = self.add(&array.items, namespace)?;
                self.within(Node::Array(item))
            }
            Schema::Map(map) => {
                let value = self.add(&map.types, namespace)?;
                self.within(Node::Map(value))
            }
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.add(branch, namespace));
                let branches = branches.collect::<Result<_, _>>()?;
                self.within(Node::Union(branches))
            }
            Schema::Record(record) => {
                // Its place is there before its fields, which may name it.
                let place = self.nodes.len();
                let step = self.within(Node::Record(Vec::new()));
                if let Some(name) = &name {
                    self.names.insert(name.clone(), step);
                }
                let inside = name.as_ref().and_then(Name::namespace);
                let mut steps = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    match (steps.last_mut(), self.add(&field.schema, inside)?) {
                        (Some(Step::Fixed(before)), Step::Fixed(size)) => *before = before.saturating_add(size),
                        (_, step) => steps.push(step),
                    }
                }
                self.nodes[place] = Node::Record(steps);
                step
            }
        };
        if let Some(name) = name {
            self.names.insert(name, step);
        }
        Ok(step)
    }

    fn within(&mut self, node: Node) -> Step {
        self.nodes.push(node);
        Step::Within(self.nodes.len() - 1)
    }
}

struct Walk<'a> {
    nodes: &'a [Node],
    rest: &'a [u8],
    /// How many more items arrays and maps may have.
    items: usize,
}

impl Walk<'_> {
    /// `depth`: how many values are around it.
    #[inline]
    fn step(&mut self, step: Step, depth: u32) -> Result<(), Fault> {
        match step {
            Step::Fixed(size) => self.skip(size),
            Step::Varint => self.varint().map(drop),
            Step::Sized => self.sized(),
            Step::Within(node) => self.enter(node, depth),
        }
    }

    fn enter(&mut self, node: usize, depth: u32) -> Result<(), Fault> {
        if depth >= DEEPEST {
            return Err(Fault("is nested too deep"));
        }
        let depth = depth + 1;
        match &self.nodes[node] {
            Node::Record(fields) => fields.iter().try_for_each(|field| self.step(*field, depth)),
            Node::Union(branches) => {
                let branch = usize::try_from(self.varint()?).ok().and_then(|index| branches.get(index));
                self.step(*branch.ok_or(Fault("names a branch that its union has not got"))?, depth)
            }
            Node::Array(item) => self.blocks(|walk| walk.step(*item, depth)),
            Node::Map(value) => self.blocks(|walk| {
                walk.sized()?;
                walk.step(*value, depth)
            }),
        }
    }

    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
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
            self.items = left.ok_or(Fault("counts more items than it has bytes"))?;
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    #[inline]
    fn sized(&mut self) -> Result<(), Fault> {
        let size = usize::try_from(self.varint()?).map_err(|_| Fault("has a length below zero"))?;
        self.skip(size)
    }

    #[inline]
    fn skip(&mut self, size: usize) -> Result<(), Fault> {
        self.rest = self.rest.get(size..).ok_or(Fault("ends too early"))?;
        Ok(())
    }

    /// A zigzag number; most are lengths and branches, and have one byte.
    #[inline]
    fn varint(&mut self) -> Result<i64, Fault> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(zigzag(u64::from(byte)))
            }
            _ => self.long_varint(),
        }
    }

    /// One of at most ten bytes.
    #[cold]
    fn long_varint(&mut self) -> Result<i64, Fault> {
        let mut number = 0_u64;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[place + 1..];
                return Ok(zigzag(number));
            }
        }
        Err(Fault(if self.rest.len() < 10 { "ends too early" } else { "has a number beyond 64 bits" }))
    }
}

fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
