//! What the two processes say to each other: a length in four bytes, the lowest first, and that many bytes of JSON.

use std::io::{self, Read};

use bantam_model::target::{Measure, PartitionPolicy, Refusal, Verdict, Which};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shared::Reference;
use crate::driver::{Device, DriverError, DriverInfo};

/// Both processes must be of one version of this.
pub const VERSION: u32 = 2;

/// The longest frame: verdicts on several hundred thousand operators.
const MOST_BYTES: usize = 128 << 20;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side has gone.
    #[error("the other side has gone")]
    End,
    /// It cannot be read or written.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// It is longer than any message.
    #[error("a message of {0} bytes")]
    Long(usize),
    /// It is not what was expected.
    #[error("a message that makes no sense: {0}")]
    Content(serde_json::Error),
}

/// What the caller asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Open {
        version: u32,
        spec: String,
    },
    Devices,
    Supports {
        model: Reference,
        subgraph: usize,
    },
    Compile {
        model: Reference,
        device: Option<String>,
        memory: Reference,
    },
    Run {
        executable: u64,
    },
    Reset {
        executable: u64,
    },
    Cost {
        executable: u64,
    },
    Free {
        executable: u64,
    },
    /// Has no answer.
    Cancel {
        executable: u64,
    },
}

/// What the process with the driver answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Opened(Opened),
    Devices(Vec<(String, String)>),
    Verdicts(Vec<WireVerdict>),
    Compiled { executable: u64 },
    Done,
    Cost(Vec<(String, f64)>),
    Failed(WireError),
}

/// A driver that has been opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    name: String,
    version: String,
    target: Option<String>,
    first_only: bool,
    min_ops: usize,
}

impl Opened {
    pub fn new(info: DriverInfo, policy: PartitionPolicy) -> Self {
        Self {
            name: info.name,
            version: info.version,
            target: info.target,
            first_only: policy.which == Which::First,
            min_ops: policy.min_ops,
        }
    }

    pub fn info(&self) -> DriverInfo {
        DriverInfo {
            name: self.name.clone(),
            version: self.version.clone(),
            target: self.target.clone(),
        }
    }

    pub fn policy(&self) -> PartitionPolicy {
        PartitionPolicy {
            which: if self.first_only {
                Which::First
            } else {
                Which::All
            },
            min_ops: self.min_ops,
        }
    }
}

impl From<(String, String)> for Device {
    fn from((id, description): (String, String)) -> Self {
        Self { id, description }
    }
}

/// [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireVerdict {
    Supported,
    Unknown(String),
    Unsupported {
        rule: String,
        reason: String,
        measured: Option<WireMeasure>,
        limit: Option<WireMeasure>,
        evidence: Option<String>,
        is_inferred: bool,
    },
}

/// [`Measure`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireMeasure {
    Number(i64),
    Text(String),
}

impl From<Measure> for WireMeasure {
    fn from(measure: Measure) -> Self {
        match measure {
            Measure::Number(number) => Self::Number(number),
            Measure::Text(text) => Self::Text(text),
        }
    }
}

impl From<WireMeasure> for Measure {
    fn from(measure: WireMeasure) -> Self {
        match measure {
            WireMeasure::Number(number) => Self::Number(number),
            WireMeasure::Text(text) => Self::Text(text),
        }
    }
}

impl From<Verdict> for WireVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Supported => Self::Supported,
            Verdict::Unknown(what) => Self::Unknown(what),
            Verdict::Unsupported(refusal) => Self::Unsupported {
                rule: refusal.rule,
                reason: refusal.reason,
                measured: refusal.measured.map(WireMeasure::from),
                limit: refusal.limit.map(WireMeasure::from),
                evidence: refusal.evidence,
                is_inferred: refusal.is_inferred,
            },
        }
    }
}

impl From<WireVerdict> for Verdict {
    fn from(verdict: WireVerdict) -> Self {
        match verdict {
            WireVerdict::Supported => Self::Supported,
            WireVerdict::Unknown(what) => Self::Unknown(what),
            WireVerdict::Unsupported {
                rule,
                reason,
                measured,
                limit,
                evidence,
                is_inferred,
            } => Self::Unsupported(Box::new(Refusal {
                rule,
                reason,
                measured: measured.map(Measure::from),
                limit: limit.map(Measure::from),
                evidence,
                is_inferred,
            })),
        }
    }
}

macro_rules! errors {
    ($($variant:ident $({ $($field:ident: $ty:ty),* })? $(($inner:ident: $of:ty))?;)*) => {
        /// [`DriverError`].
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub enum WireError {
            $($variant $({ $($field: $ty),* })? $(($of))?,)*
        }

        impl From<DriverError> for WireError {
            fn from(error: DriverError) -> Self {
                match error {
                    $(DriverError::$variant $({ $($field),* })? $(($inner))? => {
                        Self::$variant $({ $($field),* })? $(($inner))?
                    })*
                }
            }
        }

        impl From<WireError> for DriverError {
            fn from(error: WireError) -> Self {
                match error {
                    $(WireError::$variant $({ $($field),* })? $(($inner))? => {
                        Self::$variant $({ $($field),* })? $(($inner))?
                    })*
                }
            }
        }
    };
}

errors! {
    Load { path: String, cause: String };
    Unavailable { spec: String, cause: String };
    Symbol { path: String, symbol: String };
    Version { theirs: u32, ours: u32 };
    Option { option: String, cause: String };
    NoDevice { wanted: String, present: String };
    Refused(text: String);
    Failed(text: String);
    DeviceLost(text: String);
    Cancelled;
    Deadline { milliseconds: u64 };
    Died(text: String);
    Garbage(text: String);
}

/// The bytes of a message.
pub fn frame(message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(Error::Content)?;
    let len = frame.len() - 4;
    let short = u32::try_from(len).ok().filter(|_| len <= MOST_BYTES);
    frame[..4].copy_from_slice(&short.ok_or(Error::Long(len))?.to_le_bytes());
    Ok(frame)
}

/// Puts messages together from what arrives.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// The next message, or `None` where the stream's time is over before it is complete.
    pub fn read<T: DeserializeOwned>(
        &mut self,
        stream: &mut impl Read,
    ) -> Result<Option<T>, Error> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
            let mut part = [0; 4096];
            match stream.read(&mut part) {
                Ok(0) => return Err(Error::End),
                Ok(len) => self.bytes.extend_from_slice(&part[..len]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                        return Err(Error::End);
                    }
                    _ => return Err(Error::Io(error)),
                },
            }
        }
    }

    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let Some((head, body)) = self.bytes.split_first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*head) as usize;
        if len > MOST_BYTES {
            return Err(Error::Long(len));
        }
        let Some(body) = body.get(..len) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body).map_err(Error::Content)?;
        self.bytes.drain(..4 + len);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and between them runs out of time.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, part: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0
                .take(1)
                .read(part)
                .inspect(|&len| self.0 = &self.0[len..])
        }
    }

    #[test]
    fn messages_arrive_whole_however_slowly() {
        let messages = [Request::Devices, Request::Run { executable: 7 }];
        let bytes = messages.clone().map(|m| frame(&m).unwrap()).concat();
        let (mut frames, mut slow) = (Frames::default(), Slow(&bytes, false));
        let mut seen: Vec<Request> = Vec::new();
        let end = loop {
            match frames.read(&mut slow) {
                Ok(message) => seen.extend(message),
                Err(error) => break error,
            }
        };
        assert_eq!(seen, messages);
        assert!(matches!(end, Error::End));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let read = |bytes: &[u8]| Frames::default().read::<Request>(&mut &*bytes).unwrap_err();
        assert!(matches!(read(&[255; 8]), Error::Long(_)));
        assert!(matches!(read(b"\x02\0\0\0{}"), Error::Content(_)));
        let good = frame(&Request::Devices).unwrap();
        assert!(matches!(read(&good[..good.len() - 1]), Error::End));
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            // Not one of the messages has a single bit of this one wrong.
            read(&bad);
        }
    }

    #[test]
    fn errors_and_verdicts_survive_the_way() {
        let error = DriverError::NoDevice {
            wanted: "a".to_owned(),
            present: "b".to_owned(),
        };
        let there = WireError::from(error.clone());
        assert_eq!(DriverError::from(there), error);
        let verdict = Verdict::Unsupported(Box::new(Refusal {
            rule: "max-rank".to_owned(),
            reason: "too deep".to_owned(),
            measured: Some(Measure::Number(5)),
            limit: Some(Measure::Text("three".to_owned())),
            evidence: Some("a page".to_owned()),
            is_inferred: true,
        }));
        assert_eq!(Verdict::from(WireVerdict::from(verdict.clone())), verdict);
    }
}
