//! What goes wrong on demand, and when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A call of the driver in which something may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Open,
    Devices,
    Supports,
    Compile,
    Run,
    Cost,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fail,
    Delay,
    Hang,
    Stuck,
    Garbage,
    Lost,
    Die,
}

const CALLS: [(&str, Call); 6] = [
    ("open", Call::Open),
    ("devices", Call::Devices),
    ("supports", Call::Supports),
    ("compile", Call::Compile),
    ("run", Call::Run),
    ("cost", Call::Cost),
];

const KINDS: [(&str, Kind); 7] = [
    ("fail", Kind::Fail),
    ("delay", Kind::Delay),
    ("hang", Kind::Hang),
    ("stuck", Kind::Stuck),
    ("garbage", Kind::Garbage),
    ("lost", Kind::Lost),
    ("die", Kind::Die),
];

/// Decides for each call whether something goes wrong; with the same options and calls it decides the same.
#[derive(Debug)]
pub struct Faults {
    kinds: Vec<(Kind, f64)>,
    at: Vec<Call>,
    after: u64,
    times: u64,
    delay: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: u64,
    faults: u64,
    random: Random,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            at: vec![Call::Run],
            after: 0,
            times: u64::MAX,
            delay: Duration::from_millis(100),
            state: Mutex::new(State {
                calls: 0,
                faults: 0,
                random: Random(0),
            }),
        }
    }
}

impl Faults {
    /// Sets an option. `None` if it is not one of faults.
    pub fn set(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let number = || value.parse().map_err(|_| "it is not a number".to_owned());
        Some(match key {
            "fault" => kinds(value).map(|kinds| self.kinds = kinds),
            "at" => calls(value).map(|calls| self.at = calls),
            "after" => number().map(|n| self.after = n),
            "times" => number().map(|n| self.times = n),
            "delay" => number().map(|n| self.delay = Duration::from_millis(n)),
            "seed" => number().map(|n| {
                let state = self.state.get_mut();
                state.unwrap_or_else(PoisonError::into_inner).random = Random(n);
            }),
            _ => return None,
        })
    }

    /// Whether all of it makes sense together.
    pub fn check(&self) -> Result<(), String> {
        let sum: f64 = self.kinds.iter().map(|(_, share)| share).sum();
        if sum > 1.0 {
            return Err(format!("the shares of fault add up to {sum}, more than 1"));
        }
        for (kind, _) in &self.kinds {
            let possible: &[Call] = match kind {
                Kind::Garbage => &[Call::Devices, Call::Supports, Call::Run, Call::Cost],
                Kind::Lost => &[Call::Compile, Call::Run],
                _ => continue,
            };
            if let Some(call) = self.at.iter().find(|call| !possible.contains(call)) {
                return Err(format!("the fault {kind:?} cannot be at {call:?}").to_lowercase());
            }
        }
        Ok(())
    }

    /// What goes wrong in this call.
    pub fn next(&self, call: Call) -> Option<Kind> {
        if self.kinds.is_empty() || !self.at.contains(&call) {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls += 1;
        if state.calls <= self.after || state.faults >= self.times {
            return None;
        }
        let mut left = state.random.share();
        let (kind, _) = self.kinds.iter().find(|(_, share)| {
            left -= share;
            left < 0.0
        })?;
        state.faults += 1;
        Some(*kind)
    }

    /// How long the fault `delay` takes.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Overwrites `bytes` with what nothing computed.
    pub fn scribble(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.fill_with(|| state.random.next() as u8);
    }
}

fn lookup<T: Copy>(list: &[(&str, T)], name: &str) -> Result<T, String> {
    let found = list.iter().find(|(n, _)| *n == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = list.iter().map(|(n, _)| *n).collect();
        format!("{name:?} is none of {}", names.join(", "))
    })
}

fn kinds(text: &str) -> Result<Vec<(Kind, f64)>, String> {
    let kind = |part: &str| {
        let (name, share) = part.split_once(':').unwrap_or((part, "1"));
        let share: f64 = share
            .parse()
            .ok()
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(|| format!("{share:?} is not a share from 0 to 1"))?;
        Ok((lookup(&KINDS, name)?, share))
    };
    text.split(',').map(kind).collect()
}

fn calls(text: &str) -> Result<Vec<Call>, String> {
    text.split(',').map(|name| lookup(&CALLS, name)).collect()
}

/// SplitMix64, Steele, Lea and Flood 2014.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to less than 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(options: &[(&str, &str)]) -> Faults {
        let mut faults = Faults::default();
        for (key, value) in options {
            faults.set(key, value).unwrap().unwrap();
        }
        faults.check().unwrap();
        faults
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_in_about_the_share() {
        let draw = |seed| {
            let faults = faults(&[("fault", "fail:0.2,garbage:0.1"), ("seed", seed)]);
            (0..1000)
                .map(|_| faults.next(Call::Run))
                .collect::<Vec<_>>()
        };
        let drawn = draw("1");
        assert_eq!(drawn, draw("1"));
        assert_ne!(drawn, draw("2"));
        let count = |kind| drawn.iter().filter(|&&k| k == Some(kind)).count();
        assert!((150..250).contains(&count(Kind::Fail)));
        assert!((60..140).contains(&count(Kind::Garbage)));
    }

    #[test]
    fn only_the_calls_asked_for_and_only_as_often() {
        let options = [
            ("fault", "die"),
            ("at", "run,compile"),
            ("after", "2"),
            ("times", "1"),
        ];
        let faults = faults(&options);
        let calls = [
            Call::Run,
            Call::Devices,
            Call::Compile,
            Call::Run,
            Call::Run,
        ];
        let found: Vec<_> = calls.map(|call| faults.next(call)).into();
        assert_eq!(found, [None, None, None, Some(Kind::Die), None]);
    }

    #[test]
    fn says_what_makes_no_sense() {
        let error = |key, value| Faults::default().set(key, value).unwrap().unwrap_err();
        assert!(error("fault", "explode").contains("\"explode\" is none of fail,"));
        assert!(error("fault", "fail:2").contains("\"2\" is not a share"));
        assert!(error("at", "dinner").contains("none of open"));
        assert!(error("after", "soon").contains("not a number"));
        assert!(Faults::default().set("colour", "red").is_none());
        let mut sum = Faults::default();
        sum.set("fault", "fail:0.7,die:0.7").unwrap().unwrap();
        assert!(sum.check().unwrap_err().contains("1.4"));
        let mut place = Faults::default();
        place.set("fault", "garbage").unwrap().unwrap();
        place.set("at", "open").unwrap().unwrap();
        assert!(place.check().is_err());
    }
}
