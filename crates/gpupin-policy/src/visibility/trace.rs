/// One step of the way from a machine to what a process sees.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// A sentence without a period.
    pub text: String,
    /// Whether the step rests on something NVIDIA does not document.
    pub uncertain: bool,
}

/// The steps so far.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    /// `cuInit` fails.
    pub(super) fails: bool,
}

impl Trace {
    pub(super) fn certain(&mut self, text: impl Into<String>) {
        self.steps.push(Step { text: text.into(), uncertain: false });
    }

    /// What keeps CUDA from starting.
    pub(super) fn failure(&mut self, text: impl Into<String>) {
        self.certain(text);
        self.fails = true;
    }

    pub(super) fn uncertain(&mut self, text: impl Into<String>) {
        self.steps.push(Step { text: text.into(), uncertain: true });
    }

    pub(super) fn is_uncertain(&self) -> bool {
        self.steps.iter().any(|step| step.uncertain)
    }
}
