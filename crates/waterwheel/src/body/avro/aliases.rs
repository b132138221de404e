//! Fields under their readers' names: Avro's rules let a reader's field have other names, which apache-avro does not look at.

use apache_avro::Schema;
use apache_avro::schema::{RecordSchema, ResolvedSchema};
use apache_avro::types::Value;

/// A reader's schema whose fields have aliases.
pub(super) struct Aliases<'a> {
    root: &'a Schema,
    resolved: ResolvedSchema<'a>,
}

/// Whether there are any aliases of fields.
pub(super) fn any(schema: &Schema) -> bool {
    match schema {
        Schema::Record(record) => record.fields.iter().any(|field| !field.aliases.is_empty() || any(&field.schema)),
        Schema::Array(array) => any(&array.items),
        Schema::Map(map) => any(&map.types),
        Schema::Union(union) => union.variants().iter().any(any),
        _ => false,
    }
}

impl<'a> Aliases<'a> {
    /// `None`: the schema lacks types that it names.
    pub(super) fn of(root: &'a Schema) -> Option<Self> {
        Some(Self { root, resolved: ResolvedSchema::new(root).ok()? })
    }

    /// The value with its fields under the reader's names.
    pub(super) fn apply(&self, value: Value) -> Value {
        self.rename(value, self.root, None)
    }

    fn referred(&self, schema: &'a Schema, space: Option<&str>) -> &'a Schema {
        let Schema::Ref { name } = schema else { return schema };
        self.resolved.get_names().get(name.fully_qualified_name(space).as_ref()).copied().unwrap_or(schema)
    }

    fn rename(&self, value: Value, schema: &'a Schema, space: Option<&'a str>) -> Value {
        match (value, self.referred(schema, space)) {
            (Value::Union(index, inner), schema) => Value::Union(index, Box::new(self.rename(*inner, schema, space))),
            (Value::Record(fields), Schema::Union(union)) => {
                // With several records in a union none is known to be meant.
                let mut records = union.variants().iter().map(|branch| self.referred(branch, space));
                let mut records = records.by_ref().filter(|branch| matches!(branch, Schema::Record(_)));
                match (records.next(), records.next()) {
                    (Some(only), None) => self.rename(Value::Record(fields), only, space),
                    _ => Value::Record(fields),
                }
            }
            (Value::Record(fields), Schema::Record(record)) => self.rename_fields(fields, record, space),
            (Value::Array(items), Schema::Array(array)) => {
                Value::Array(items.into_iter().map(|item| self.rename(item, &array.items, space)).collect())
            }
            (Value::Map(items), Schema::Map(map)) => {
                Value::Map(items.into_iter().map(|(key, item)| (key, self.rename(item, &map.types, space))).collect())
            }
            (value, _) => value,
        }
    }

    fn rename_fields(&self, fields: Vec<(String, Value)>, record: &'a RecordSchema, space: Option<&'a str>) -> Value {
        let inside = record.name.namespace().or(space);
        let renamed = fields.into_iter().map(|(name, value)| {
            let field = record.fields.iter().find(|field| field.name == name);
            match field.or_else(|| record.fields.iter().find(|field| field.aliases.contains(&name))) {
                Some(field) => (field.name.clone(), self.rename(value, &field.schema, inside)),
                None => (name, value),
            }
        });
        Value::Record(renamed.collect())
    }
}
