//! Here-documents of Dockerfiles: `RUN <<EOF`, `COPY <<EOF file`.

use std::ops::Range;

/// A here-document.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) text: Range<usize>,
    /// With the closing line, which is no instruction either.
    pub(super) whole: Range<usize>,
}

/// All here-documents, in order.
pub(super) fn bodies(text: &str) -> Vec<Body> {
    let mut found = Vec::new();
    let mut waiting: Vec<&str> = Vec::new();
    let mut start = 0;
    let mut offset = 0;
    for raw in text.split_inclusive('\n') {
        let line_start = offset;
        offset += raw.len();
        if let Some(mark) = waiting.first() {
            if raw.trim() == *mark {
                found.push(Body { text: start..line_start, whole: start..offset });
                waiting.remove(0);
                start = offset;
            }
            continue;
        }
        let line = raw.trim_start();
        let takes_one = ["RUN", "COPY", "ADD"]
            .iter()
            .any(|it| line.get(..it.len()).is_some_and(|word| word.eq_ignore_ascii_case(it)));
        if takes_one && line.contains("<<") {
            waiting = line.split("<<").skip(1).filter_map(mark).collect();
            start = offset;
        }
    }
    found
}

fn mark(behind: &str) -> Option<&str> {
    let behind = behind.trim_start_matches('-');
    let quoted = behind.trim_start_matches(['"', '\'']);
    let end = quoted.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(quoted.len());
    (end > 0).then(|| &quoted[..end])
}
