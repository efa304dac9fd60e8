//! The JSON of a run, read back: what `report` and `compare` work on.
//!
//! Nothing of it is a fixed list: phases, causes and settings are what the file names, so that files with more of them are read by
//! the same code. A file of an unknown layout is an error, never a guess.

use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::json::SCHEMA;

/// Latencies, nanoseconds.
pub type Latencies = Histogram<u64>;

/// Largest file that is read: a run with all its slices has a few MiB.
const FILE_OCTETS_MAX: u64 = 256 << 20;

/// A run.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The name of the file.
    pub name: String,
    /// Everything.
    pub json: Value,
}

/// A run over time.
#[derive(Clone, Debug)]
pub struct Slices {
    /// Width of a slice, seconds.
    pub slice_s: f64,
    /// From the first slice to the measured window, seconds.
    pub lead_s: f64,
    /// Open loop: planned starts of each slice.
    pub planned: Option<Vec<f64>>,
    /// Messages acknowledged in each slice.
    pub acknowledged: Vec<f64>,
    /// Errors in each slice.
    pub errors: Vec<f64>,
    /// Total latencies of each slice.
    pub latencies: Vec<Option<Latencies>>,
}

impl Figures {
    /// Reads a file that `run --json` has written.
    ///
    /// # Errors
    /// A sentence with the name of the file: it cannot be read, is not JSON, not of a run, or of another schema.
    pub fn read(path: &Path) -> Result<Self, String> {
        let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let octets = fs::metadata(path).map_err(|error| place(&error))?.len();
        if octets > FILE_OCTETS_MAX {
            return Err(place(&format!("{octets} octets are more than a run has")));
        }
        let text = fs::read(path).map_err(|error| place(&error))?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| place(&error))?;
        Self::new(path.display().to_string(), json)
    }

    /// Checks what the file is.
    ///
    /// # Errors
    /// Not of a run, or of another schema.
    pub fn new(name: String, json: Value) -> Result<Self, String> {
        match json.get("schema") {
            None => Err(format!("{name}: not a file of `inrush-load run --json`: it has no `schema`")),
            Some(schema) if schema.as_u64() != Some(u64::from(SCHEMA)) => Err(format!(
                "{name}: schema {schema} is not known here (this is {}, which reads schema {SCHEMA})",
                env!("CARGO_PKG_VERSION")
            )),
            Some(_) if !json["counts"].is_object() => {
                Err(format!("{name}: not a file of `inrush-load run --json`: it has no `counts`"))
            }
            Some(_) => Ok(Self { name, json }),
        }
    }

    /// A number by its JSON pointer (RFC 6901).
    #[must_use]
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.json.pointer(pointer)?.as_f64()
    }

    /// A text by its JSON pointer.
    #[must_use]
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.json.pointer(pointer)?.as_str()
    }

    /// Names of the phases that have figures, in the order of time.
    #[must_use]
    pub fn phases(&self) -> Vec<&str> {
        let timed = |name: &&str| self.json["latency_us"][*name].is_object();
        match self.json["phases"].as_array() {
            Some(names) => names.iter().filter_map(Value::as_str).filter(timed).collect(),
            None => {
                let latencies = self.json["latency_us"].as_object();
                latencies.into_iter().flatten().map(|(name, _)| name.as_str()).filter(timed).collect()
            }
        }
    }

    /// The whole distribution of a phase, nanoseconds; None: the file has none.
    ///
    /// # Errors
    /// It is there and does not hold.
    pub fn histogram(&self, phase: &str) -> Result<Option<Histogram<u64>>, String> {
        decode(&self.json["histograms_ns"][phase])
            .map_err(|error| format!("{}: distribution of {phase}: {error}", self.name))
    }

    /// The run over time; None: the file has none.
    ///
    /// # Errors
    /// It is there and does not hold.
    pub fn slices(&self) -> Result<Option<Slices>, String> {
        let series = &self.json["series"];
        if series.is_null() {
            return Ok(None);
        }
        let place = |error: &str| format!("{}: series: {error}", self.name);
        let column = |name: &str| -> Result<Vec<f64>, String> {
            let column = series[name].as_array().ok_or_else(|| place(&format!("{name} is missing")))?;
            column.iter().map(|value| value.as_f64().ok_or_else(|| place("a count is no number"))).collect()
        };
        let acknowledged = column("acknowledged")?;
        let errors = column("errors")?;
        let planned = if series["planned"].is_null() { None } else { Some(column("planned")?) };
        let latencies = series["latency_ns"].as_array().ok_or_else(|| place("latency_ns is missing"))?;
        let latencies =
            latencies.iter().map(decode).collect::<Result<Vec<_>, _>>().map_err(|error| place(&error))?;
        let slices = acknowledged.len();
        let same = errors.len() == slices
            && latencies.len() == slices
            && planned.as_ref().is_none_or(|planned| planned.len() == slices);
        let slice_s = series["slice_s"].as_f64().filter(|seconds| *seconds > 0.0 && seconds.is_finite());
        match slice_s {
            Some(slice_s) if same => Ok(Some(Slices {
                slice_s,
                lead_s: series["lead_s"].as_f64().unwrap_or(0.0),
                planned,
                acknowledged,
                errors,
                latencies,
            })),
            Some(_) => Err(place("its columns are of different length")),
            None => Err(place("slice_s is missing")),
        }
    }
}

fn decode(value: &Value) -> Result<Option<Histogram<u64>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => {
            let octets = base64_simd::STANDARD
                .decode_to_vec(text)
                .map_err(|_| "not in Base64 (RFC 4648 §4)".to_owned())?;
            let histogram = Deserializer::new().deserialize(&mut octets.as_slice());
            histogram.map(Some).map_err(|error| format!("not a histogram: {error}"))
        }
        _ => Err("not a text in Base64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    fn error(json: Value) -> String {
        Figures::new("a.json".to_owned(), json).unwrap_err()
    }

    #[test]
    fn other_files_are_refused() {
        assert!(error(json!({ "a": 1 })).contains("no `schema`"));
        assert!(error(json!([1])).contains("no `schema`"));
        assert!(error(json!({ "schema": 1 })).contains("no `counts`"));
        let unknown = error(json!({ "schema": 99, "counts": {} }));
        assert!(unknown.contains("a.json: schema 99 is not known here"), "{unknown}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broken.json");
        fs::write(&path, "{").unwrap();
        assert!(Figures::read(&path).unwrap_err().contains("broken.json"));
        assert!(Figures::read(&directory.path().join("none.json")).is_err());
    }

    #[test]
    fn damaged_parts_are_told() {
        let figures = |json| Figures::new("a.json".to_owned(), json).unwrap();
        let bad = figures(json!({ "schema": 1, "counts": {}, "histograms_ns": { "total": "AAAA" } }));
        assert!(bad.histogram("total").unwrap_err().contains("distribution of total"));
        assert!(bad.histogram("ehlo").unwrap().is_none());
        assert!(bad.slices().unwrap().is_none());
        let series =
            json!({ "slice_s": 0.1, "acknowledged": [1, 2], "errors": [0], "latency_ns": [null, null] });
        let uneven = figures(json!({ "schema": 1, "counts": {}, "series": series }));
        assert!(uneven.slices().unwrap_err().contains("different length"));
    }
}
