use super::uses::{Outside, Use};
use crate::{finding::Edit, language::settings::device_text, project::Project, span::Span};

/// Replaces the ordinal by 0, or takes it away where any is refused, if it stands in this file as it is and is the
/// only one.
pub(super) fn edit(project: &Project<'_>, used: &Use<'_>, is_refused: bool) -> Option<Edit> {
    let [Outside { ordinal, place: (at, span), .. }] = &*used.outside else { return None };
    // Without a policy 0 is just another number.
    if !used.meant.is_declared() || *at != used.unit || used.all != 1 || used.meant.count() != 1 {
        return None;
    }
    let source = &project.unit(*at).source;
    let number = ordinal.to_string();
    let digits = match source.slice(*span).trim_matches(['"', '\'']) {
        text if text == number && !is_refused => source.find_in(*span, &number)?,
        // The digits of `cuda:1`, not the 1 of `/job:1/device:GPU:1`.
        text if device_text(text).is_some() => {
            let text_span = source.find_in(*span, text)?;
            let digits = device_text(text)?.digits;
            let start = text_span.start as usize;
            if is_refused {
                let colon = (start + digits.start).checked_sub(1)?;
                let span = Span::new(colon, start + digits.end);
                return Some(Edit { unit: *at, span, replacement: String::new() });
            }
            Span::new(start + digits.start, start + digits.end)
        }
        _ => return None,
    };
    Some(Edit { unit: *at, span: digits, replacement: "0".to_owned() })
}
