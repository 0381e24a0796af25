use crate::language::tests::check;

#[test]
fn an_image_sets_variables_and_starts_a_program() {
    check(
        "Dockerfile",
        r#"FROM nvidia/cuda:12
ARG GPU=1
RUN apt-get update \
    # why
    && CUDA_VISIBLE_DEVICES=0 python setup.py
ENV PATH=/venv/bin:$PATH \
    CUDA_VISIBLE_DEVICES="$GPU" \
    B='1 2'
ENV CUDA_DEVICE_ORDER PCI_BUS_ID
ENV NVIDIA_VISIBLE_DEVICES=all
WORKDIR /app
CMD ["python", "/app/main.py", "--device", "cuda:1"]
"#,
        r#"
        scope
          scope
            start PythonFile("setup.py") with CUDA_VISIBLE_DEVICES="0" (Dockerfile)
          set PATH = text("/venv/bin:" $PATH)‹/venv/bin:$PATH› Assign Container (Dockerfile)
          set CUDA_VISIBLE_DEVICES = default "1"‹$GPU› Assign Container (Dockerfile)
          set B = "1 2" Assign Container (Dockerfile)
          set CUDA_DEVICE_ORDER = "PCI_BUS_ID" Assign Container (Dockerfile)
          gpus All (Dockerfile)
          set NVIDIA_VISIBLE_DEVICES = "all" Assign Container (Dockerfile)
          start PythonFile("main.py") (Dockerfile)
          choose --device 1 Ordinal Choose (Dockerfile)
        "#,
    );
}

#[test]
fn stages_build_on_each_other() {
    check(
        "gpu.dockerfile",
        r#"FROM x AS base
ENV CUDA_VISIBLE_DEVICES=1
ENTRYPOINT ["python"]
from --platform=linux/amd64 base as final
CMD ["-m", "app"]
"#,
        r#"
        scope
          set CUDA_VISIBLE_DEVICES = "1" Assign Container (base)
          start Other("python") (base)
        scope
          set CUDA_VISIBLE_DEVICES = "1" Assign Container (base)
          start PythonModule("app") (final)
        "#,
    );
}

#[test]
fn shell_forms_and_here_documents_are_read_as_shell() {
    check(
        "Dockerfile",
        r#"FROM x
RUN --mount=type=cache,target=/c <<EOF
export CUDA_VISIBLE_DEVICES=1
python a.py
EOF
COPY <<EOF /x.env
ENV CUDA_VISIBLE_DEVICES=2
EOF
CMD CUDA_VISIBLE_DEVICES=3 exec python b.py  # gpupin: ignore[GP103] r
"#,
        r#"
        scope
          scope
            set CUDA_VISIBLE_DEVICES = "1" Assign Process (Dockerfile)
            start PythonFile("a.py") (Dockerfile)
          start PythonFile("b.py") with CUDA_VISIBLE_DEVICES="3" (Dockerfile)
          leave Exit
        ignore GP103 in ‹CMD CUDA_VISIBLE_DEVICES=3 exec python b.py  # gpupin: ignore[GP103] r›
        "#,
    );
}
