use std::{fmt, str::FromStr, time::Duration};

/// Why a text is not the value it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(String);

impl InvalidValue {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// An amount of memory that remembers the unit it was written in.
///
/// `GiB` is 2³⁰ bytes and `GB` is 10⁹. Two amounts are equal when their bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    count: u64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug)]
struct Unit {
    name: &'static str,
    bytes: u64,
}

const UNITS: &[Unit] = &[
    Unit { name: "B", bytes: 1 },
    Unit { name: "kB", bytes: 1_000 },
    Unit { name: "KiB", bytes: 1 << 10 },
    Unit { name: "MB", bytes: 1_000_000 },
    Unit { name: "MiB", bytes: 1 << 20 },
    Unit { name: "GB", bytes: 1_000_000_000 },
    Unit { name: "GiB", bytes: 1 << 30 },
    Unit { name: "TB", bytes: 1_000_000_000_000 },
    Unit { name: "TiB", bytes: 1 << 40 },
];

impl Bytes {
    /// The amount in the largest binary unit that expresses it as a whole number.
    pub fn new(count: u64) -> Self {
        let mut unit = UNITS[0];
        for larger in UNITS.iter().filter(|unit| unit.bytes.is_power_of_two()) {
            if count >= larger.bytes && count.is_multiple_of(larger.bytes) {
                unit = *larger;
            }
        }
        Self { count, unit }
    }

    /// The number of bytes.
    pub fn get(self) -> u64 {
        self.count
    }
}

impl FromStr for Bytes {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (number, unit) = split_unit(text)
            .ok_or_else(|| InvalidValue::new("expected a number and a unit, such as `20 GiB`"))?;
        let known = UNITS.iter().find(|known| known.name == unit).copied();
        let unit = known.ok_or_else(|| {
            // `24gb` and `24 GIB` are slips, but `Gb` may mean bits: ask instead of guessing.
            let near = UNITS.iter().find(|known| known.name.eq_ignore_ascii_case(unit));
            InvalidValue::new(match near {
                _ if unit.is_empty() => "a size needs a unit, such as `GiB` or `GB`".to_owned(),
                Some(near) => format!("unknown unit `{unit}`, did you mean `{}`?", near.name),
                None => format!("unknown unit `{unit}`, expected one such as `GiB` or `GB`"),
            })
        })?;
        let count = scaled(number, unit.bytes)
            .ok_or_else(|| InvalidValue::new("expected a whole number of bytes below 2⁶⁴"))?;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unit { name, bytes } = self.unit;
        let (whole, mut rest) = (self.count / bytes, u128::from(self.count % bytes));
        write!(f, "{whole}")?;
        if rest > 0 {
            f.write_str(".")?;
        }
        // Every unit divides a power of ten, so this ends.
        while rest > 0 {
            rest *= 10;
            write!(f, "{}", rest / u128::from(bytes))?;
            rest %= u128::from(bytes);
        }
        write!(f, " {name}")
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.count.cmp(&other.count)
    }
}

impl std::hash::Hash for Bytes {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.count.hash(state);
    }
}

const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a time such as `500ms`, `30s`, `10min`, `1.5h` or `2d`.
pub fn duration(text: &str) -> Result<Duration, InvalidValue> {
    let expected = || InvalidValue::new("expected a number and `ms`, `s`, `min`, `h` or `d`");
    let (number, unit) = split_unit(text).ok_or_else(expected)?;
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let millis = scaled(number, *millis)
        .ok_or_else(|| InvalidValue::new("expected a whole number of milliseconds below 2⁶⁴"))?;
    Ok(Duration::from_millis(millis))
}

/// Splits `1.5 GiB` into number and unit; `None` if it does not start with a digit.
fn split_unit(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit()).then(|| (number, unit.trim_start_matches(' ')))
}

/// Multiplies a decimal number exactly; `None` if the result is no `u64`.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = digits.checked_mul(u128::from(factor))?;
    (product % scale == 0).then(|| u64::try_from(product / scale).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_unit() {
        for (text, count, printed) in [
            ("20 GiB", 20 << 30, "20 GiB"),
            ("20GiB", 20 << 30, "20 GiB"),
            ("100 MB", 100_000_000, "100 MB"),
            ("1.5 GiB", 3 << 29, "1.5 GiB"),
            ("0.001 kB", 1, "0.001 kB"),
            ("16311 MiB", 16311 << 20, "16311 MiB"),
            ("0 B", 0, "0 B"),
        ] {
            let bytes: Bytes = text.parse().unwrap();
            assert_eq!((bytes.get(), bytes.to_string().as_str()), (count, printed), "{text}");
        }
    }

    #[test]
    fn invalid_sizes_say_what_is_wrong() {
        for (text, reason) in [
            ("20", "a size needs a unit, such as `GiB` or `GB`"),
            ("24 gib", "unknown unit `gib`, did you mean `GiB`?"),
            ("24 Gb", "unknown unit `Gb`, did you mean `GB`?"),
            ("24 G", "unknown unit `G`, expected one such as `GiB` or `GB`"),
            ("GiB", "expected a number and a unit, such as `20 GiB`"),
            ("-1 GiB", "expected a number and a unit, such as `20 GiB`"),
            ("", "expected a number and a unit, such as `20 GiB`"),
            ("1.5 B", "expected a whole number of bytes below 2⁶⁴"),
            ("1. GiB", "expected a whole number of bytes below 2⁶⁴"),
            ("1.2.3 GiB", "expected a whole number of bytes below 2⁶⁴"),
            ("99999999999 TiB", "expected a whole number of bytes below 2⁶⁴"),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap_err().to_string(), reason, "{text}");
        }
    }

    #[test]
    fn measured_sizes_print_in_the_largest_whole_unit() {
        for (count, printed) in
            [(24 << 30, "24 GiB"), (24564 << 20, "24564 MiB"), (1000, "1000 B"), (0, "0 B")]
        {
            assert_eq!(Bytes::new(count).to_string(), printed);
        }
    }

    #[test]
    fn durations_read_every_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10min", 600_000),
            ("1.5 h", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["10", "10m", "min", "", "-1s", "0.0001s", "999999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
