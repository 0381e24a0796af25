fn main() {
    let selection = gpupin_lint::selection::Selection::default();
    let surveyor =
        gpupin_lint::survey::Surveyor::new(selection.rules(), &gpupin_policy::Policy::default());
    for literal in surveyor.literals() {
        println!("{literal}");
    }
}
