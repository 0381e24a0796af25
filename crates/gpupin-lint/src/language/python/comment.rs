use super::syntax;

/// Where a comment about what stands at `offset` may begin: the end of its line, or of its statement where a text or
/// a backslash goes on with the next line.
pub(crate) fn place_for_comment(text: &str, offset: usize) -> usize {
    let end_of_line = |from: usize| {
        let line = text[from..].split('\n').next().unwrap_or_default();
        from + line.trim_end_matches('\r').len()
    };
    let here = end_of_line(offset);
    let tree = syntax::parse(text);
    let in_text = tree.texts_of_several_lines().any(|it| it.start < here && here < it.end);
    if !in_text && !text[..here].ends_with('\\') {
        return here;
    }
    let statement = tree.logical_lines().into_iter().find(|it| offset <= it.end);
    statement.map_or(here, |it| end_of_line(it.end))
}
