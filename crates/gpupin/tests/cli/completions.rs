use crate::sandbox::Sandbox;

#[test]
fn every_shell_gets_a_script_that_knows_the_verbs() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let outcome = Sandbox::new().gpupin(&["completions", shell]);
        assert_eq!(outcome.code, 0);
        for word in ["scan", "output-format", "which"] {
            assert!(outcome.out.contains(word), "{shell} completes `{word}`");
        }
        assert!(outcome.err.is_empty());
    }
}
