use crate::language::tests::check;

#[test]
fn variables_reach_recipes_when_exported() {
    check(
        "Makefile",
        "GPU ?= 1\nPY := python3\nexport CUDA_DEVICE_ORDER = PCI_BUS_ID # order\nCUDA_VISIBLE_DEVICES = $(GPU)\nexport CUDA_VISIBLE_DEVICES\n\n# CUDA_VISIBLE_DEVICES=7\ntrain: data\n\t@CUDA_VISIBLE_DEVICES=$(GPU) $(PY) train.py \\\n\t\t--device cuda:$(GPU)\n\t-cd src && python $@.py\n\tfor i in 0 1; do python x.py --gpu-id $$i; done\n\nserve: export CUDA_VISIBLE_DEVICES = 0\nserve:\n\tpython -m app\n",
        r#"
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID" Assign Process
        set CUDA_VISIBLE_DEVICES = default "1"‹$(GPU)›‹$(GPU)› Assign ShellOnly
        set CUDA_VISIBLE_DEVICES = default "1"‹CUDA_VISIBLE_DEVICES›‹CUDA_VISIBLE_DEVICES› Assign Process
        scope
          scope
            start PythonFile("train.py") with CUDA_VISIBLE_DEVICES=default "1"‹$(GPU)›‹$(GPU)› (train)
            choose --device default 1‹cuda:$(GPU)›‹cuda:$(GPU)› Ordinal Choose (train)
          scope
            start Unknown (train)
          scope
            loop
              start PythonFile("x.py") (train)
        scope
          set CUDA_VISIBLE_DEVICES = "0" Assign Process (serve)
          scope
            start PythonModule("app") (serve)
        "#,
    );
}

#[test]
fn conditions_decide_settings_and_functions_are_not_guessed() {
    check(
        "rules.mk",
        "ifndef CUDA_VISIBLE_DEVICES\nexport CUDA_VISIBLE_DEVICES = $(shell nvidia-smi --query-gpu=index)\nelse\nexport A = 1\nendif\nunexport B\ndefine text\nexport C = 1\nendef\nrun: ; CUDA_VISIBLE_DEVICES=$(word 1,$(GPUS)) python a.py\n",
        r#"
        if CUDA_VISIBLE_DEVICES is set
          set A = "1" Assign Process
        or
          set CUDA_VISIBLE_DEVICES = NvmlIndex‹$(shell nvidia-smi --query-gpu=index)› Assign Process
        unset B
        scope
          scope
            start PythonFile("a.py") with CUDA_VISIBLE_DEVICES=Unknown‹$(word 1,$(GPUS))› (run)
        "#,
    );
}
