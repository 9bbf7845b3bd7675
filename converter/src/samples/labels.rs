//! Labels as text: a line a sample, with or without the sample's name, and the label a number or the name of a
//! class.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::{ElementType, Names, Samples, Tensor};

/// The most bytes of a packed list of classes that are read.
const MAX_CLASSES: u64 = 1 << 20;

/// How many names an error lists.
const SHOWN: usize = 5;

/// Why labels cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file has no lines.
    #[error("{path} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line of a `.csv` file has more than a name and a label.
    #[error("line {line} of {path} has {fields} fields, not a name and a label")]
    Fields {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// How many fields it has.
        fields: usize,
    },
    /// A label is neither a number nor a class.
    #[error("{text:?} in line {line} of {path} is neither a number nor the name of {classes}")]
    Label {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands for the label.
        text: String,
        /// What classes there are.
        classes: Classes,
    },
    /// The file names samples that are in an array, where they have no names.
    #[error("{path} names its samples, but those of the data have no names")]
    Nameless {
        /// The file.
        path: PathBuf,
    },
    /// Samples without a label.
    #[error("{path} has no label for {count} of {samples} samples: {}{}", names.join(", "), if names.len() < *count { ", ..." } else { "" })]
    Missing {
        /// The file.
        path: PathBuf,
        /// How many samples have no label.
        count: usize,
        /// How many samples there are.
        samples: usize,
        /// The names of the first few.
        names: Vec<String>,
    },
    /// Two labels for one sample.
    #[error("{path} has two labels for {name}: {first} and {second}")]
    Twice {
        /// The file.
        path: PathBuf,
        /// The sample.
        name: String,
        /// The one.
        first: f64,
        /// The other.
        second: f64,
    },
}

/// How many classes have names, for a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classes(usize);

impl std::fmt::Display for Classes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("a class, as classes have no names here"),
            count => write!(f, "one of {count} classes"),
        }
    }
}

/// The labels of samples, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// A number for each sample, the place of a class that was named. From a file without names of samples there
    /// may be more or fewer than samples.
    pub values: Vec<f64>,
    /// Lines that name no sample.
    pub strangers: Vec<String>,
}

/// A line's label, and the sample's name where there is one.
struct Entry<'a> {
    line: usize,
    text: &'a str,
    sample: Option<usize>,
    label: String,
}

impl Labels {
    /// Reads labels from a text file. A line is `name label` or, in a `.csv` file, `name,label`; or a label alone,
    /// and then the lines are in the order of the samples. `names` are those of the samples, where they have some,
    /// `classes` those of the model's classes. A first line that fits nowhere is a header.
    ///
    /// # Errors
    ///
    /// The file cannot be read, a label is none, or a sample has no label or two.
    pub fn read(
        path: &Path,
        names: Option<&[String]>,
        classes: &[String],
    ) -> Result<Self, LabelError> {
        let text = fs::read_to_string(path).map_err(|source| LabelError::Read {
            path: path.to_owned(),
            source,
        })?;
        let reader = Reader {
            path,
            names: names.unwrap_or_default(),
            finder: Names::new(names.unwrap_or_default()),
            classes: classes_by_name(classes),
            class_count: classes.len(),
        };
        let mut entries = reader.entries(&text)?;
        if entries.is_empty() {
            return Err(LabelError::Empty {
                path: path.to_owned(),
            });
        }
        if entries.iter().any(|entry| entry.sample.is_some()) {
            return reader.named(&entries);
        }
        let is_header = reader.value(&entries[0]).is_err() && entries.len() > 1;
        entries.drain(..usize::from(is_header));
        let values = entries.iter().map(|entry| reader.value(entry));
        Ok(Self {
            values: values.collect::<Result<_, _>>()?,
            strangers: Vec::new(),
        })
    }

    /// The classes of samples that lie in one folder a class; `None` where they do not.
    pub fn of_folders(samples: &Samples) -> Option<Self> {
        let folders = samples.class_folders();
        let class = |name: &String| {
            let (folder, _) = name.split_once('/')?;
            folders.iter().position(|f| f == folder).map(|c| c as f64)
        };
        let values = samples.names()?.iter().map(class).collect::<Option<_>>();
        Some(Self {
            values: values?,
            strangers: Vec::new(),
        })
    }

    /// The labels as an array of one axis.
    pub fn to_tensor(&self) -> Tensor {
        Tensor {
            shape: vec![self.values.len()],
            dtype: ElementType::F64,
            bytes: self.values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        }
    }
}

/// The names of a model's classes from the text file that TFLite metadata packs behind the model, as a ZIP archive;
/// empty where there is none, or more than one.
pub fn packed_classes(model: &Path) -> Vec<String> {
    classes_in(model).unwrap_or_default()
}

fn classes_in(model: &Path) -> Option<Vec<String>> {
    let file = BufReader::new(fs::File::open(model).ok()?);
    let mut archive = ZipArchive::new(file).ok()?;
    let is_text = |name: &[u8]| name.to_ascii_lowercase().ends_with(b".txt");
    let names = archive.file_names_raw().enumerate();
    let texts: Vec<usize> = names
        .filter(|(_, name)| is_text(name))
        .map(|(index, _)| index)
        .collect();
    let [index] = texts[..] else {
        return None;
    };
    let entry = archive.by_index(index).ok()?;
    let mut text = String::new();
    entry.take(MAX_CLASSES).read_to_string(&mut text).ok()?;
    Some(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// The place of each class; `None` for a name that several have.
fn classes_by_name(classes: &[String]) -> HashMap<&str, Option<usize>> {
    let mut places = HashMap::new();
    for (index, class) in classes.iter().enumerate() {
        let place = places.entry(class.as_str()).or_insert(Some(index));
        if *place != Some(index) {
            *place = None;
        }
    }
    places
}

/// What the lines of a file are read with.
struct Reader<'a> {
    path: &'a Path,
    names: &'a [String],
    finder: Names,
    classes: HashMap<&'a str, Option<usize>>,
    class_count: usize,
}

impl Reader<'_> {
    fn entries<'t>(&self, text: &'t str) -> Result<Vec<Entry<'t>>, LabelError> {
        let is_csv = self
            .path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let text = text.trim_start_matches('\u{feff}');
        let lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty());
        lines
            .map(|(line, text)| match is_csv {
                true => self.csv(line, text),
                false => Ok(self.plain(line, text)),
            })
            .collect()
    }

    fn csv<'t>(&self, line: usize, text: &'t str) -> Result<Entry<'t>, LabelError> {
        let path = || self.path.to_owned();
        let (sample, label) = match &mut fields(text)[..] {
            [label] => (None, std::mem::take(label)),
            [_, _] if self.names.is_empty() => return Err(LabelError::Nameless { path: path() }),
            [name, label] => (self.finder.find(name), std::mem::take(label)),
            fields => {
                return Err(LabelError::Fields {
                    path: path(),
                    line,
                    fields: fields.len(),
                });
            }
        };
        Ok(Entry {
            line,
            text,
            sample,
            label,
        })
    }

    /// Names and labels may both have spaces in them: the longest name that is a sample's is one.
    fn plain<'t>(&self, line: usize, text: &'t str) -> Entry<'t> {
        let is_separator = |c: char| c.is_whitespace() || c == ',' || c == ';';
        let ends = text.rmatch_indices(is_separator);
        let found = ends.filter_map(|(end, _)| {
            let name = text[..end].trim_matches(is_separator);
            let label = text[end..].trim_matches(is_separator);
            Some((self.finder.find(name)?, label))
        });
        let (sample, label) = match { found }.next() {
            Some((sample, label)) => (Some(sample), label),
            None => (None, text),
        };
        Entry {
            line,
            text,
            sample,
            label: label.to_owned(),
        }
    }

    fn value(&self, entry: &Entry<'_>) -> Result<f64, LabelError> {
        if let Some(Some(class)) = self.classes.get(entry.label.as_str()) {
            return Ok(*class as f64);
        }
        let number = entry
            .label
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite());
        number.ok_or_else(|| LabelError::Label {
            path: self.path.to_owned(),
            line: entry.line,
            text: entry.label.clone(),
            classes: Classes(self.class_count),
        })
    }

    fn named(&self, entries: &[Entry<'_>]) -> Result<Labels, LabelError> {
        let mut values = vec![None; self.names.len()];
        let mut strangers = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let Some(sample) = entry.sample else {
                if index > 0 {
                    strangers.push(entry.text.to_owned());
                }
                continue;
            };
            let second = self.value(entry)?;
            match values[sample].replace(second) {
                Some(first) if first != second => {
                    return Err(LabelError::Twice {
                        path: self.path.to_owned(),
                        name: self.names[sample].clone(),
                        first,
                        second,
                    });
                }
                _ => {}
            }
        }
        let missing = values.iter().zip(self.names).filter(|(v, _)| v.is_none());
        let names: Vec<String> = missing.map(|(_, name)| name.clone()).collect();
        if !names.is_empty() {
            return Err(LabelError::Missing {
                path: self.path.to_owned(),
                count: names.len(),
                samples: self.names.len(),
                names: names.into_iter().take(SHOWN).collect(),
            });
        }
        Ok(Labels {
            values: values.into_iter().flatten().collect(),
            strangers,
        })
    }
}

/// The fields of a line of a `.csv` file; `"` encloses one that has commas, and `""` is `"` there.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields[last].push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        file: &str,
        text: &str,
        names: Option<&[&str]>,
        classes: &[&str],
    ) -> Result<Labels, LabelError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        fs::write(&path, text).unwrap();
        let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let names = names.map(owned);
        Labels::read(&path, names.as_deref(), &owned(classes))
    }

    const NAMES: Option<&[&str]> = Some(&["a.png", "my cat.png", "c, d.png"]);

    #[test]
    fn lines_with_names_find_their_samples() {
        for (file, text) in [
            ("y.txt", "my cat.png 2\na.png\t1\n\nc, d.png 3\n"),
            (
                "y.txt",
                "\u{feff}file label\r\nc, d 3\r\na.png, 1\r\nmy cat 2\r\n",
            ),
            (
                "y.csv",
                "name,label\n\"c, d.png\",3\nx/a.png,1\nmy cat.png , 2\n",
            ),
        ] {
            let labels = read(file, text, NAMES, &[]).unwrap();
            assert_eq!(labels.values, [1.0, 2.0, 3.0], "{text}");
            assert!(labels.strangers.is_empty(), "{text}");
        }
        let text = "a 1\nb.png 7\nmy cat 2\nc, d.png 3";
        assert_eq!(
            read("y.txt", text, NAMES, &[]).unwrap().strangers,
            ["b.png 7"]
        );
    }

    #[test]
    fn classes_have_names_with_spaces() {
        let classes = ["tabby cat", "dog", "dog", "7"];
        let text = "a.png tabby cat\nmy cat.png 7\nc, d.png 2.5";
        let labels = read("y.txt", text, NAMES, &classes).unwrap();
        assert_eq!(labels.values, [0.0, 3.0, 2.5]);
        // Two classes have that name.
        let error = read("y.txt", "1\ndog", None, &classes).unwrap_err();
        assert!(
            error.to_string().ends_with("the name of one of 4 classes"),
            "{error}"
        );
    }

    #[test]
    fn labels_alone_are_in_the_order_of_the_samples() {
        for text in ["0\n2\n\n1", "label\n0\n2\n1\n", "\"0\"\n2\n1\n"] {
            assert_eq!(
                read("y.csv", text, None, &[]).unwrap().values,
                [0.0, 2.0, 1.0]
            );
        }
        assert_eq!(read("y.txt", "3", NAMES, &[]).unwrap().values, [3.0]);
    }

    #[test]
    fn classes_are_packed_behind_a_model() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.tflite");
        let pack = |names: &[&str]| {
            let mut bytes = b"a model, whose bytes come first".to_vec();
            let mut archive = zip::ZipWriter::new(io::Cursor::new(vec![]));
            for name in names {
                let options = zip::write::SimpleFileOptions::DEFAULT;
                archive.start_file(*name, options).unwrap();
                io::Write::write_all(&mut archive, b"red fox\r\ndog\n").unwrap();
            }
            bytes.extend(archive.finish().unwrap().into_inner());
            fs::write(&path, &bytes).unwrap();
            bytes
        };
        let bytes = pack(&["labels.txt", "more.json"]);
        assert_eq!(packed_classes(&path), ["red fox", "dog"]);
        for end in 0..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            assert!(packed_classes(&path).is_empty(), "{end}");
        }
        pack(&["a.txt", "b.txt"]);
        assert!(packed_classes(&path).is_empty());
        assert!(packed_classes(dir.path()).is_empty());
    }

    #[test]
    fn refuses_what_labels_nothing() {
        let error = |file: &str, text: &str, names| read(file, text, names, &[]).unwrap_err();
        assert!(matches!(
            error("y.txt", " \n", None),
            LabelError::Empty { .. }
        ));
        assert!(matches!(
            error("y.txt", "a 1\nc, d.png 3", NAMES),
            LabelError::Missing {
                count: 1,
                samples: 3,
                ..
            }
        ));
        assert!(matches!(
            error("y.txt", "a 1\nmy cat 2\nc, d 3\na.png 2", NAMES),
            LabelError::Twice { .. }
        ));
        assert!(matches!(
            error("y.csv", "a,1", None),
            LabelError::Nameless { .. }
        ));
        assert!(matches!(
            error("y.csv", "a,1,2", NAMES),
            LabelError::Fields {
                line: 1,
                fields: 3,
                ..
            }
        ));
        for label in ["nan", "inf", "x.png 1", "-"] {
            let text = format!("1\n{label}\n");
            let error = error("y.txt", &text, NAMES);
            assert!(
                matches!(error, LabelError::Label { line: 2, .. }),
                "{error}"
            );
        }
        let missing = Labels::read(Path::new("none.txt"), None, &[]);
        assert!(matches!(missing, Err(LabelError::Read { .. })));
    }
}
