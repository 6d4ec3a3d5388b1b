//! The Kubernetes manifests as kubectl renders them: against 1.32's schemas, and against our own rules.
//!
//! Leaves out: a cluster. Invariant: every container runs as nobody special, with limits, on a
//! read-only root.

use crate::root;
use glmeval_tests::{python, real};
use serde_json::Value;
use tokio::process::Command;

pub(crate) const OVERLAYS: [&str; 3] = ["cpu", "gpu-spot", "partition"];
const COMPONENTS: [&str; 2] = ["jobset", "kueue"];
/// YAML on standard input to JSON on standard output.
const TO_JSON: &str =
    "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(sys.stdin) if d]))";

/// What kubectl makes of an overlay, with a component on top if one is named.
async fn yaml(overlay: &str, component: Option<&str>) -> Option<Vec<u8>> {
    let kubectl = real::program("kubectl", "deploy/kubernetes")?;
    let copy = tempfile::tempdir().unwrap();
    let source = root().join("deploy/kubernetes");
    let copied = Command::new("cp").arg("-r").arg(source).arg(copy.path()).status().await;
    assert!(copied.unwrap().success());
    let mut folder = copy.path().join("kubernetes/overlays").join(overlay);
    if let Some(component) = component {
        folder = copy.path().join("kubernetes/overlays/test");
        std::fs::create_dir(&folder).unwrap();
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
             resources: [../{overlay}]\ncomponents: [../../components/{component}]\n"
        );
        std::fs::write(folder.join("kustomization.yaml"), text).unwrap();
    }
    let output = Command::new(kubectl).arg("kustomize").arg(&folder).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{overlay} {component:?}: {said}");
    Some(output.stdout)
}

/// The objects of an overlay.
pub(crate) async fn rendered(overlay: &str, component: Option<&str>) -> Option<Vec<Value>> {
    let python = python::python("deploy/kubernetes")?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.yaml");
    std::fs::write(&path, yaml(overlay, component).await?).unwrap();
    let mut command = Command::new(python);
    command.args(["-c", TO_JSON]).stdin(std::fs::File::open(&path).unwrap());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// Templates of pods, wherever an object has them.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let mut found = Vec::new();
    for object in objects {
        let spec = &object["spec"];
        found.extend(Some(&spec["template"]["spec"]).filter(|spec| spec.is_object()));
        for job in spec["replicatedJobs"].as_array().into_iter().flatten() {
            found.push(&job["template"]["spec"]["template"]["spec"]);
        }
    }
    found
}

/// Every container of every pod.
pub(crate) fn containers(objects: &[Value]) -> Vec<Value> {
    let of_pod = |pod: &Value| pod["containers"].as_array().unwrap().clone();
    pods(objects).into_iter().flat_map(of_pod).collect()
}

fn assert_hardened(objects: &[Value]) {
    assert!(!pods(objects).is_empty());
    for pod in pods(objects) {
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["serviceAccountName"], "glmeval");
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        for mount in pod["volumes"].as_array().unwrap() {
            assert!(mount.get("hostPath").is_none());
        }
    }
    for container in containers(objects) {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        for resource in ["cpu", "memory"] {
            assert!(container["resources"]["limits"][resource].is_string(), "{container}");
            assert!(container["resources"]["requests"][resource].is_string(), "{container}");
        }
        assert!(!container["image"].as_str().unwrap().ends_with("latest"));
    }
}

/// Rules of a Job of workers.
fn assert_survives_preemption(job: &Value) {
    assert_eq!(job["completionMode"], "Indexed");
    assert_eq!(job["completions"], job["parallelism"]);
    assert_eq!(job["podReplacementPolicy"], "Failed");
    assert!(job["backoffLimitPerIndex"].is_u64());
    let rules = &job["podFailurePolicy"]["rules"];
    assert_eq!(rules[0]["action"], "Ignore");
    let condition = serde_json::json!([{"type": "DisruptionTarget", "status": "True"}]);
    assert_eq!(rules[0]["onPodConditions"], condition);
    assert_eq!(rules[1]["action"], "FailIndex");
    assert!(rules[1]["onExitCodes"]["values"].as_array().unwrap().contains(&42.into()));
    let pod = &job["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    let seconds = arguments.iter().find_map(|word| word.as_str()?.strip_prefix("--grace-seconds="));
    assert!(seconds.unwrap().parse::<u64>().unwrap() + 10 <= grace, "time to hand back is left");
}

#[tokio::test]
async fn the_schemas_of_kubernetes_accept_what_kubectl_renders() {
    let Some(python) = python::python("deploy/kubernetes") else { return };
    let validate = python.parent().unwrap().join("kubernetes-validate");
    assert!(validate.is_file(), "kubernetes-validate is not installed: run `cargo xtask test`");
    let variants = OVERLAYS.map(|overlay| (overlay, None));
    for (overlay, component) in variants.into_iter().chain([("cpu", Some("kueue"))]) {
        let Some(yaml) = yaml(overlay, component).await else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.yaml");
        std::fs::write(&path, yaml).unwrap();
        let mut command = Command::new(&validate);
        command.args(["-k", "1.32", "--strict"]).arg(path);
        let output = command.output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{overlay}: {said}");
    }
}

#[tokio::test]
async fn every_pod_is_hardened_and_has_limits() {
    for overlay in OVERLAYS {
        let Some(objects) = rendered(overlay, None).await else { return };
        assert_hardened(&objects);
        for object in &objects {
            let namespaced = object["kind"] != "Namespace";
            assert!(!namespaced || object["metadata"]["namespace"] == "glmeval", "{object}");
        }
        let policies = of_kind(&objects, "NetworkPolicy");
        let denies = |policy: &&&Value| {
            policy["spec"].get("ingress").is_none() && policy["spec"].get("egress").is_none()
        };
        let all = policies.iter().find(denies).expect("a policy that allows nothing");
        assert_eq!(all["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
        let labels = &all["spec"]["podSelector"]["matchLabels"];
        for kind in ["Job", "Deployment"] {
            for object in of_kind(&objects, kind) {
                let pod = &object["spec"]["template"]["metadata"]["labels"];
                for (name, value) in labels.as_object().unwrap() {
                    assert_eq!(pod[name], *value, "the policy reaches {kind}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_lost_pod_is_no_failure_and_a_refused_one_is_not_replaced() {
    for overlay in OVERLAYS {
        let Some(objects) = rendered(overlay, None).await else { return };
        let jobs = of_kind(&objects, "Job");
        assert_eq!(jobs.len(), 1, "{overlay}");
        assert_survives_preemption(&jobs[0]["spec"]);
        let partition = overlay == "partition";
        assert_eq!(of_kind(&objects, "Deployment").is_empty(), partition);
        assert_eq!(of_kind(&objects, "Service").is_empty(), partition);
        if partition {
            let environment = jobs[0]["spec"]["template"]["spec"]["containers"][0]["env"].clone();
            let count = environment.as_array().unwrap().iter();
            let count = count.filter(|variable| variable["name"] == "GLMEVAL_PARTITIONS");
            let count: Vec<_> = count.map(|variable| variable["value"].as_str().unwrap()).collect();
            assert_eq!(count, [jobs[0]["spec"]["completions"].to_string()]);
        }
    }
}

#[tokio::test]
async fn one_coordinator_at_a_time_is_probed_and_may_be_moved() {
    let Some(objects) = rendered("cpu", None).await else { return };
    let deployment = &of_kind(&objects, "Deployment")[0]["spec"];
    assert_eq!(
        (&deployment["replicas"], &deployment["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    let container = &deployment["template"]["spec"]["containers"][0];
    let arguments = container["args"].as_array().unwrap();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let listens = format!("--health-listen=0.0.0.0:{}", container[probe]["grpc"]["port"]);
        assert!(arguments.contains(&listens.clone().into()), "{probe}: {listens}");
    }
    let (service, budgets) =
        (of_kind(&objects, "Service"), of_kind(&objects, "PodDisruptionBudget"));
    let labels = &deployment["template"]["metadata"]["labels"];
    for selector in
        [&service[0]["spec"]["selector"], &budgets[0]["spec"]["selector"]["matchLabels"]]
    {
        for (name, value) in selector.as_object().unwrap() {
            assert_eq!(labels[name], *value);
        }
    }
}

#[tokio::test]
async fn a_gpu_and_spot_nodes_are_asked_for_where_they_are_wanted() {
    let Some(objects) = rendered("gpu-spot", None).await else { return };
    let pod = &of_kind(&objects, "Job")[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert!(container["image"].as_str().unwrap().ends_with("-gpu"));
    let tolerations = pod["tolerations"].as_array().unwrap();
    assert!(tolerations.iter().any(|toleration| toleration["key"] == "nvidia.com/gpu"));
    let required = &pod["affinity"]["nodeAffinity"];
    let terms = &required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    assert!(terms.as_array().unwrap().len() >= 3, "one of the clouds' marks of a spot node");
}

/// JobSet and Kueue are no part of Kubernetes' schemas: what we rely on is asserted here.
#[tokio::test]
async fn components_for_jobset_and_kueue_change_what_they_say() {
    assert_eq!(COMPONENTS, ["jobset", "kueue"]);
    let Some(objects) = rendered("cpu", Some("kueue")).await else { return };
    let job = of_kind(&objects, "Job")[0];
    assert_eq!(job["spec"]["suspend"], true);
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "glmeval");
    let Some(objects) = rendered("cpu", Some("jobset")).await else { return };
    assert!(of_kind(&objects, "Job").is_empty() && of_kind(&objects, "Deployment").is_empty());
    assert_hardened(&objects);
    let set = of_kind(&objects, "JobSet")[0];
    assert_eq!(set["apiVersion"], "jobset.x-k8s.io/v1alpha2");
    let jobs = set["spec"]["replicatedJobs"].as_array().unwrap();
    let names: Vec<_> = jobs.iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["coordinator", "workers"]);
    assert_eq!(
        set["spec"]["successPolicy"]["targetReplicatedJobs"],
        serde_json::json!(["workers"])
    );
    assert_survives_preemption(&jobs[1]["template"]["spec"]);
    // Workers follow the coordinator's record, so they begin after it and hear of its end.
    let worker = &jobs[1]["template"]["spec"]["template"]["spec"]["containers"][0]["args"];
    let words: Vec<_> = worker.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(words.contains(&"--discover") && words.contains(&"--until-idle"), "{words:?}");
    assert!(!words.iter().any(|word| word.starts_with("--coordinator")), "{words:?}");
    assert_eq!(set["spec"]["startupPolicy"]["startupPolicyOrder"], "InOrder");
    let ends = &jobs[0]["template"]["spec"]["podFailurePolicy"]["rules"][1];
    assert_eq!(ends["action"], "FailJob");
    assert_eq!(ends["onExitCodes"]["values"], serde_json::json!([2, 3, 42]));
    assert_eq!(jobs[0]["template"]["spec"]["template"]["spec"]["restartPolicy"], "Never");
    let coordinator = &jobs[0]["template"]["spec"]["template"];
    let labels = &coordinator["metadata"]["labels"];
    let service = &of_kind(&objects, "Service")[0]["spec"]["selector"];
    for (name, value) in service.as_object().unwrap() {
        assert_eq!(labels[name], *value, "the Service finds the coordinator");
    }
}
