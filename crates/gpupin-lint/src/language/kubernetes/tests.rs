use crate::language::tests::check;

#[test]
fn containers_of_every_document_are_read() {
    check(
        "k8s/x.yaml",
        r#"
apiVersion: v1
kind: Pod
spec:
  containers:
    - name: tts
      image: x
      command: ["python", "-m", "app"]
      args: [--device, "cuda:1"]
      env:
        - {name: CUDA_VISIBLE_DEVICES, value: "1"}
        - name: TOKEN
          valueFrom: {secretKeyRef: {name: a, key: b}}
      resources:
        limits: {nvidia.com/gpu: 1}
---
apiVersion: batch/v1
kind: CronJob
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: j, command: [sh, -c, "CUDA_VISIBLE_DEVICES=0 python j.py"]}]}}}}}
---
apiVersion: v1
kind: ConfigMap
data: {CUDA_DEVICE_ORDER: PCI_BUS_ID}
"#,
        r#"
        scope
          gpus Amount(1) (tts)
          set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Container (tts)
          set TOKEN = Unknown‹name: TOKEN
                  valueFrom: {secretKeyRef: {name: a, key: b}}› Assign Container (tts)
          start PythonModule("app") (tts)
          choose --device 1 Ordinal Choose (tts)
        scope
          scope
            start PythonFile("j.py") with CUDA_VISIBLE_DEVICES="0" (j)
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID" Assign Loader
        "#,
    );
}
