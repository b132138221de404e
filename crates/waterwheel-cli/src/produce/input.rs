//! Where records come from: stdin, files, or nowhere. A thread reads and cuts them, so that waiting for a slow input holds up
//! nothing else; it is a few batches ahead at most.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::frames::{Frame, Frames};
use super::unit::{Made, Maker, Problem};
use crate::exit::{Exit, Failure};
use crate::random::SplitMix;

/// Batches that wait to be sent.
const AHEAD: usize = 4;
/// Records, and bytes of them, that are handed over at once.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 1 << 18;

/// What is read.
pub(super) enum Source {
    Stdin,
    File(PathBuf),
}

/// How units are cut out of what is read.
#[derive(Clone)]
pub(super) enum Cut {
    /// At a delimiter; `most` bytes each.
    At { delimiter: Vec<u8>, most: usize, warn_of_cr: bool },
    /// All that a source has is one.
    Whole { most: usize },
}

/// Where a record stands in the input.
#[derive(Clone, Debug)]
pub(super) struct Place {
    source: Arc<str>,
    /// From 1; `None` for a whole file.
    line: Option<u64>,
}

impl Place {
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn line(&self) -> Option<u64> {
        self.line
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// What was found.
pub(super) struct Unit {
    pub(super) place: Place,
    pub(super) made: Result<Made, Problem>,
    /// As it stood in the input, if that is wanted.
    pub(super) text: Option<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct Batch {
    pub(super) units: VecDeque<Unit>,
    bytes: usize,
    /// How far the input was read with it.
    pub(super) position: u64,
    /// To be said.
    pub(super) warning: Option<String>,
}

/// The input, being read.
pub(super) struct Input {
    batches: mpsc::Receiver<Result<Batch, Failure>>,
    /// Bytes of all of it, where that is known.
    pub(super) size: Option<u64>,
    /// Whether someone types it.
    pub(super) is_typed: bool,
}

impl Input {
    /// Begins to read.
    pub(super) fn begin(opened: Vec<Opened>, cut: Cut, maker: Maker, keep_text: bool) -> Result<Self, Failure> {
        let size = opened.iter().map(|source| source.size).sum();
        let is_typed = opened.iter().any(|source| source.is_typed);
        let batches = on_a_thread(move |to| {
            let mut reading = Reading { to, maker, keep_text, batch: Batch::default(), before: 0 };
            for source in opened {
                reading.source(source, &cut)?;
            }
            reading.hand_over()
        })?;
        Ok(Self { batches, size, is_typed })
    }

    /// Makes so many records out of nothing: their number, from 0, filled up to `size` bytes with letters; as key the
    /// number modulo `keys`.
    pub(super) fn made_up(count: u64, size: usize, keys: Option<u64>, maker: Maker) -> Result<Self, Failure> {
        let batches = on_a_thread(move |to| {
            let source: Arc<str> = "record".into();
            let mut reading = Reading { to, maker, keep_text: false, batch: Batch::default(), before: 0 };
            let mut random = SplitMix::default();
            for number in 0..count {
                let place = Place { source: source.clone(), line: Some(number) };
                let made = reading.maker.make_up(&value(number, size, &mut random), keys.map(|keys| number % keys));
                reading.batch.position = number + 1;
                reading.push(Unit { place, made: Ok(made), text: None });
                if reading.is_full() {
                    reading.hand_over()?;
                }
            }
            reading.hand_over()
        })?;
        Ok(Self { batches, size: None, is_typed: false })
    }

    /// What comes next; `None`: nothing.
    pub(super) async fn next(&mut self) -> Option<Result<Batch, Failure>> {
        self.batches.recv().await
    }
}

/// Why reading ends early.
enum Ended {
    /// Nobody wants more.
    Unwanted,
    Failed(Failure),
}

fn on_a_thread(
    read: impl FnOnce(mpsc::Sender<Result<Batch, Failure>>) -> Result<(), Ended> + Send + 'static,
) -> io::Result<mpsc::Receiver<Result<Batch, Failure>>> {
    let (to, batches) = mpsc::channel(AHEAD);
    let work = move || {
        if let Err(Ended::Failed(failure)) = read(to.clone()) {
            // Nobody may want to know.
            let _ = to.blocking_send(Err(failure));
        }
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(work)?;
    Ok(batches)
}

/// A source that can be read.
pub(super) struct Opened {
    name: Arc<str>,
    reader: Box<dyn Read + Send>,
    size: Option<u64>,
    is_typed: bool,
}

/// Opens a source; nothing is read of it.
pub(super) fn open(source: Source) -> Result<Opened, Failure> {
    match source {
        Source::Stdin => {
            let stdin = io::stdin();
            let is_typed = io::IsTerminal::is_terminal(&stdin);
            // A copy, to be asked what it is; it stands where stdin stands.
            let size = stdin.as_fd().try_clone_to_owned().ok().and_then(|copy| left(&mut File::from(copy)));
            Ok(Opened { name: "stdin".into(), reader: Box::new(stdin), size, is_typed })
        }
        Source::File(path) => {
            let wrong = |error: io::Error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
            let mut file = File::open(&path).map_err(wrong)?;
            if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                return Err(Failure::new(Exit::Usage, format!("{}: is a directory", path.display())));
            }
            let size = left(&mut file);
            Ok(Opened { name: path.display().to_string().into(), reader: Box::new(file), size, is_typed: false })
        }
    }
}

/// Bytes from where a file stands to its end; `None` of what is none.
fn left(file: &mut File) -> Option<u64> {
    let length = file.metadata().ok().filter(Metadata::is_file)?.len();
    Some(length.saturating_sub(file.stream_position().ok()?))
}

struct Reading {
    to: mpsc::Sender<Result<Batch, Failure>>,
    maker: Maker,
    keep_text: bool,
    batch: Batch,
    /// Bytes of the sources before this one.
    before: u64,
}

impl Reading {
    fn source(&mut self, source: Opened, cut: &Cut) -> Result<(), Ended> {
        let failed =
            |error: io::Error, name: &str| Ended::Failed(Failure::new(Exit::Failed, format!("{name}: {error}")));
        match cut {
            Cut::Whole { most } => {
                let mut bytes = Vec::new();
                // One more shows that there are too many.
                let mut limited = source.reader.take(*most as u64 + 1);
                limited.read_to_end(&mut bytes).map_err(|error| failed(error, &source.name))?;
                let frame = match bytes.len() > *most {
                    true => Frame::TooLong(source.size.unwrap_or(bytes.len() as u64)),
                    false => Frame::Record(&bytes),
                };
                self.found(frame, Place { source: source.name, line: None }, *most);
                self.before += bytes.len() as u64;
                self.batch.position = self.before;
            }
            Cut::At { delimiter, most, warn_of_cr } => {
                let mut frames = Frames::new(source.reader, delimiter, *most);
                let mut line = 0;
                loop {
                    while let Some(frame) = frames.take() {
                        line += 1;
                        if line == 1 && *warn_of_cr && matches!(&frame, Frame::Record(bytes) if bytes.ends_with(b"\r"))
                        {
                            self.batch.warning = Some(format!(
                                "warning: {}: lines end with \\r\\n, and the \\r becomes part of the values; -D '\\r\\n' leaves it out",
                                source.name
                            ));
                        }
                        self.found(frame, Place { source: source.name.clone(), line: Some(line) }, *most);
                        self.batch.position = self.before + frames.position();
                        if self.is_full() {
                            self.hand_over()?;
                        }
                    }
                    self.hand_over()?;
                    if !frames.fill().map_err(|error| failed(error, &source.name))? {
                        self.before += frames.position();
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn found(&mut self, frame: Frame<'_>, place: Place, most: usize) {
        let (made, text) = match frame {
            Frame::Record(bytes) => (self.maker.make(bytes), self.keep_text.then(|| bytes.to_vec())),
            Frame::TooLong(length) => {
                let problem =
                    format!("{length} bytes are too many: {most} is the most that is read, by message.max.bytes");
                (Err(problem.into()), None)
            }
        };
        self.push(Unit { place, made, text });
    }

    fn push(&mut self, unit: Unit) {
        self.batch.bytes += unit.made.as_ref().map_or(0, |made| made.size) + unit.text.as_ref().map_or(0, Vec::len);
        self.batch.units.push_back(unit);
    }

    fn is_full(&self) -> bool {
        self.batch.units.len() >= BATCH || self.batch.bytes >= BATCH_BYTES
    }

    /// Hands over what there is.
    fn hand_over(&mut self) -> Result<(), Ended> {
        if self.batch.units.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.to.blocking_send(Ok(batch)).map_err(|_| Ended::Unwanted)
    }
}

/// The number, filled up with letters at random: what compresses as little as text does.
fn value(number: u64, size: usize, random: &mut SplitMix) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.truncate(size);
    while value.len() < size {
        let letters = random.next().to_le_bytes().map(|byte| b'a' + byte % 26);
        value.extend_from_slice(&letters[..letters.len().min(size - value.len())]);
    }
    value
}
