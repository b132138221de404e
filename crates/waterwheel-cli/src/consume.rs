//! `waterwheel consume`: records of topics on stdout, without a group.

use waterwheel::registry::Part;
use waterwheel::{
    AssignedBuilder, Client, Decoder, Keyed, KeyedBy, ReadEvent, Record, RecordBatch, Start, Until, keyed,
};

use crate::body::{BodyCodec, FormatArgs, OnError, Shown, of_registry};
use crate::exit::{Exit, Failure, say};
use crate::global::Global;
use crate::records::{Filter, Form, FormArgs, Out, Range, View};
use crate::runtime;
use crate::stop;

/// Write the records of topics to stdout, without a group
///
/// Reads from the beginning and goes on until a signal, unless told otherwise. Options have the names that they have in kcat.
#[derive(clap::Args)]
pub(crate) struct Consume {
    /// Topics
    #[arg(value_name = "TOPIC", required_unless_present = "topic")]
    topics: Vec<String>,
    /// The same, as kcat takes it; repeatable
    #[arg(short, long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only this partition; repeatable [default: all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// From where to where, in each partition: beginning, end, N, -N (before the end), A:B (below B), A:end; by time
    /// s@TIME, e@TIME, @TIME:TIME, a TIME being milliseconds since 1970, 2026-01-01T00:00:00Z, or -1h; repeatable [default:
    /// beginning]
    // Takes the place of the global option of that name.
    #[arg(id = "output", short = 'o', long = "offset", value_name = "RANGE", allow_hyphen_values = true)]
    range: Vec<String>,
    /// End at the end of each partition, as it is now
    #[arg(short, long, conflicts_with = "follow")]
    exit: bool,
    /// Go on with what is written later: what is done anyway, unless --tail or an end is given
    #[arg(long)]
    follow: bool,
    /// The last N offsets of each partition, then end
    #[arg(long, value_name = "N", conflicts_with = "output")]
    tail: Option<u64>,
    /// End after that many records
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    formats: FormatArgs,
    /// What is done at a record that is not of its format: stop, or leave it out and end with 1
    #[arg(long, value_enum, default_value_t = OnError::Stop, value_name = "WHAT", help_heading = "Formats")]
    on_error: OnError,
    #[command(flatten)]
    filter: Filter,
}

/// What is done with each record.
struct Printer {
    form: Form,
    filter: Filter,
    bodies: KeyedBy<BodyCodec, BodyCodec>,
    on_error: OnError,
    out: Out,
    /// Records that may still be written.
    left: u64,
    /// Records that were not of their format.
    left_out: u64,
}

impl Consume {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(async {
            let (_requests, asked) = stop::requests()?;
            let range = self.range()?;
            let form = self.form.form()?;
            let formats = self.formats.formats()?;
            let bodies = keyed(
                BodyCodec::new(formats.key, Part::Key, formats.registry.as_ref())?,
                BodyCodec::new(formats.value, Part::Value, formats.registry.as_ref())?,
            );
            let client = Client::builder().properties(global.properties()?).build()?;
            let reader = self.reader(&client, range);
            let out = Out::stdout()?;
            let left = self.count.unwrap_or(u64::MAX);
            let on_error = self.on_error;
            let mut printer =
                Printer { form, filter: self.filter, bodies, on_error, out: out.clone(), left, left_out: 0 };
            tokio::select! {
                read = printer.read(reader) => read?,
                () = asked.reach(1) => {}
                () = out.gone() => {}
            }
            tokio::select! {
                written = out.flush() => written?,
                () = asked.reach(2) => {}
            }
            if printer.left_out == 0 {
                return Ok(Exit::Done);
            }
            let problem = format!("left out, since they were not of their format: {}", printer.left_out);
            Err(Failure::new(Exit::Failed, problem))
        })
    }

    fn range(&self) -> Result<Range, Failure> {
        let usage = |problem: &str| Failure::new(Exit::Usage, problem);
        let mut range = Range::parse(&self.range).map_err(|problem| usage(&format!("-o {problem}")))?;
        if let Some(offsets) = self.tail {
            range.start = Start::BeforeEnd(offsets);
        }
        let ends = range.until != Until::Stopped;
        match (self.follow, self.exit || self.tail.is_some()) {
            (true, _) if ends => {
                return Err(usage("--follow goes on, and -o says where to end").hint("leave one of them out"));
            }
            (false, true) if !ends => range.until = Until::End,
            _ => {}
        }
        Ok(range)
    }

    fn reader(&self, client: &Client, range: Range) -> AssignedBuilder {
        let topics = || self.topics.iter().chain(&self.topic).map(String::as_str);
        let reader = client.assigned().until(range.until);
        if self.partition.is_empty() {
            return topics().fold(reader, |reader, topic| reader.topic(topic, range.start));
        }
        let partitions = topics().flat_map(|topic| self.partition.iter().map(move |partition| (topic, *partition)));
        partitions.fold(reader, |reader, (topic, partition)| reader.partition(topic, partition, range.start))
    }
}

impl Printer {
    async fn read(&mut self, reader: AssignedBuilder) -> Result<(), Failure> {
        let mut consumer = reader.open().await?;
        let mut lines = Vec::new();
        while self.left > 0
            && let Some(event) = consumer.next_event().await
        {
            match event {
                ReadEvent::Batch(batch) => {
                    let written = self.write(&batch, &mut lines).await;
                    self.out.push(|bytes| bytes.append(&mut lines));
                    if let Err(failure) = written {
                        self.out.flush().await?;
                        return Err(failure);
                    }
                    self.out.room().await;
                }
                ReadEvent::AtEnd(partition) => tracing::info!(%partition, "at the end"),
                ReadEvent::Gap { partition, from, to } => {
                    say(format_args!("warning: {partition}: the records from {from} on are gone; going on at {to}"));
                }
                ReadEvent::Trouble { error, .. } => tracing::warn!(%error, "trouble while reading"),
                ReadEvent::Failed { error, .. } => {
                    self.out.flush().await?;
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the records that are wanted, up to one that ends it all.
    async fn write(&mut self, batch: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), Failure> {
        for record in batch.iter() {
            if self.left == 0 {
                break;
            }
            let Some(Keyed { key, value }) = self.shown(&record).await? else { continue };
            let view = View::of(&record).with_key(&key).with_value(&value);
            if self.filter.lets_pass(&view) {
                self.form.push(lines, &view);
                self.left -= 1;
            }
        }
        Ok(())
    }

    /// What is shown of a record; `None` if it is left out.
    async fn shown(&mut self, record: &Record) -> Result<Option<Keyed<Shown, Shown>>, Failure> {
        /// Of which it is told where they are.
        const TOLD: u64 = 20;
        let failure = match self.bodies.read(record).await {
            Ok(shown) => return Ok(Some(shown)),
            Err(failure) => failure,
        };
        let problem = format!("{}@{}: {}", record.topic_partition(), record.offset(), failure.error());
        if let Some(exit) = failure.error().downcast_ref().and_then(of_registry) {
            return Err(Failure::new(exit, problem));
        }
        let problem = format!("{problem} ({})", failure.class());
        if self.on_error == OnError::Stop {
            return Err(Failure::new(Exit::Failed, problem).hint("--on-error skip leaves such records out"));
        }
        self.left_out += 1;
        if self.left_out <= TOLD {
            say(format_args!("warning: {problem}; left out"));
        }
        Ok(None)
    }
}
