//! The manifests of `deploy/kubernetes`: against the schemas of Kubernetes, and against each other.
//!
//! The schemas come with `kubernetes-validate`, a package of Python that `cargo xtask packages` puts into `target/tools`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use inrush_tests::tls::Authority;
use inrush_tests::{binary, process};
use serde_json::Value;

use super::{file, text};

/// The oldest version with all that the manifests use, and a later one.
const VERSIONS: [&str; 2] = ["1.30", "1.34"];

fn python(arguments: &[&str]) -> Command {
    let modules = file("target/tools/kubernetes-validate");
    assert!(modules.is_dir(), "{} is not there; `cargo xtask packages` installs it", modules.display());
    let mut command = process::command("python3", arguments);
    command.env("PYTHONPATH", modules);
    command
}

fn manifests() -> Vec<PathBuf> {
    let folder = fs::read_dir(file("deploy/kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    // What kustomize reads is no object of Kubernetes.
    let mut files: Vec<PathBuf> = folder.filter(|path| !path.ends_with("kustomization.yaml")).collect();
    files.sort();
    files
}

/// All objects, by kind and name.
fn objects() -> BTreeMap<(String, String), Value> {
    let script = "import json, sys, yaml\n\
                  print(json.dumps([o for f in sys.argv[1:] for o in yaml.safe_load_all(open(f))]))";
    let mut command = python(&["-c", script]);
    command.args(manifests());
    let all: Vec<Value> = serde_json::from_slice(&process::finish(command).succeeded().stdout).unwrap();
    let word = |object: &Value, path: &str| object.pointer(path).unwrap().as_str().unwrap().to_owned();
    all.into_iter()
        .map(|object| ((word(&object, "/kind"), word(&object, "/metadata/name")), object))
        .collect()
}

fn object(kind: &str, name: &str) -> Value {
    let mut all = objects();
    all.remove(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The objects of an array by their names.
fn named(array: &Value) -> BTreeMap<String, &Value> {
    array.as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one)).collect()
}

#[test]
fn the_schemas_are_kept() {
    for version in VERSIONS {
        let mut command = python(&["-m", "kubernetes_validate", "--strict", "-k", version]);
        command.args(manifests());
        let validated = process::finish(command).succeeded().text();
        assert_eq!(validated.matches(" passed for resource ").count(), objects().len(), "{validated}");
    }
    let listed = text("deploy/kubernetes/kustomization.yaml");
    for path in manifests() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(listed.contains(&format!("- {name}\n")), "{name}");
    }
}

#[test]
fn the_manifests_fit_each_other() {
    let set = object("StatefulSet", "inrush");
    let pod = &set["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(set["spec"]["selector"]["matchLabels"], *labels);
    for (kind, name) in [("Service", "inrush"), ("Service", "inrush-pods"), ("PodDisruptionBudget", "inrush")]
    {
        let selector = &object(kind, name)["spec"]["selector"];
        assert_eq!(*selector.get("matchLabels").unwrap_or(selector), *labels, "{kind} {name}");
    }
    assert_eq!(set["spec"]["serviceName"], "inrush-pods");
    let container = &pod["spec"]["containers"][0];
    let ports = named(&container["ports"]);
    for service in ["inrush", "inrush-pods"] {
        for port in object("Service", service)["spec"]["ports"].as_array().unwrap() {
            assert!(ports.contains_key(port["targetPort"].as_str().unwrap()), "{service}: {port}");
        }
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert!(ports.contains_key(container[probe]["httpGet"]["port"].as_str().unwrap()), "{probe}");
    }
    // Every mount has its volume, every volume its object.
    let volumes = named(&pod["spec"]["volumes"]);
    let claim = set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"].as_str().unwrap();
    for mount in named(&container["volumeMounts"]).keys() {
        assert!(volumes.contains_key(mount) || mount == claim, "{mount}");
    }
    for volume in volumes.values() {
        let (kind, name) = match (volume.pointer("/configMap/name"), volume.pointer("/secret/secretName")) {
            (Some(name), _) => ("ConfigMap", name),
            (_, Some(name)) => ("Secret", name),
            _ => panic!("{volume}"),
        };
        object(kind, name.as_str().unwrap());
    }
    // A number for each replica, and no number twice.
    let nodes = &object("ConfigMap", "inrush-nodes")["data"];
    let replicas = set["spec"]["replicas"].as_u64().unwrap();
    for replica in 0..replicas {
        assert!(nodes[format!("inrush-{replica}.toml")].is_string(), "{replica}");
    }
    let numbers = nodes.as_object().unwrap().values().map(|text| text.as_str().unwrap());
    let distinct: std::collections::BTreeSet<&str> = numbers.clone().collect();
    assert_eq!(distinct.len(), numbers.count());
    // The user of the image.
    let user = set.pointer("/spec/template/spec/securityContext/runAsUser").unwrap();
    assert!(text("deploy/container/Containerfile").contains(&format!("USER {user}:{user}")));
    // Time for load balancers, for transactions under way, and for the disk.
    let wait = container.pointer("/lifecycle/preStop/sleep/seconds").unwrap().as_u64().unwrap();
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let defaults = process::finish({
        let mut command = Command::new(binary::inrush());
        command.args(["config", "dump", "--defaults"]);
        command
    });
    assert!(defaults.succeeded().text().contains("drain_deadline = \"30s\""));
    assert!(grace >= wait + 30 + 30, "{grace}");
}

/// The files as the pod has them, elsewhere.
#[test]
fn the_configuration_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("/etc/inrush", &root)).unwrap();
    };
    for (name, to) in [("inrush", "conf.d"), ("inrush-recipients", "recipients")] {
        for (key, text) in object("ConfigMap", name)["data"].as_object().unwrap() {
            write(&format!("{to}/{key}"), text.as_str().unwrap());
        }
    }
    let authority = Authority::new();
    let files = authority.issue("mx.example.com");
    write("tls/tls.crt", &fs::read_to_string(&files.certificate).unwrap());
    write("tls/tls.key", &fs::read_to_string(&files.key).unwrap());
    write("secret/token", "0123456789abcdef0123456789abcdef\n");
    let nodes = &object("ConfigMap", "inrush-nodes")["data"];
    for (name, text) in nodes.as_object().unwrap() {
        write("inrush.toml", text.as_str().unwrap());
        let mut command = Command::new(binary::inrush());
        command.args(["check", "--config"]).arg(folder.path().join("inrush.toml"));
        let checked = process::finish(command);
        assert!(checked.status.success(), "{name}: {}", checked.text());
    }
}
