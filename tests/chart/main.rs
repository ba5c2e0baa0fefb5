//! The Helm chart: it lints, both shapes are what they should be, and the schema refuses what would
//! be dangerous or could not work.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

mod tools;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use clap::CommandFactory as _;
use marrowflag::config::Cli;
use serde_json::{Value, json};

use tools::{CHART, Helm, helm};

/// Variables of `serve` that are not among `settings`, because the chart derives them.
const DERIVED: &[&str] = &[
    "MARROWFLAG_LISTEN",
    "MARROWFLAG_INSECURE",
    "MARROWFLAG_DATABASE",
    "MARROWFLAG_IDENTITY_KEY_FILE",
    "MARROWFLAG_FHIR_SERVER",
    "MARROWFLAG_FHIR_SERVER_TOKEN_FILE",
    "MARROWFLAG_FHIR_SERVER_SMART",
    "MARROWFLAG_FHIR_SERVER_CLIENT_CERT",
    "MARROWFLAG_FHIR_SERVER_CLIENT_KEY",
    "MARROWFLAG_FHIR_SERVER_CA",
    "MARROWFLAG_CLIENTS",
    "MARROWFLAG_CODE_MAP",
];

/// Flags of `serve` that the chart does not know yet, and why.
const LEFT_OUT: &[(&str, &str)] = &[];

/// A values file of the chart.
fn values(name: &str) -> String {
    format!("--values={CHART}/ci/{name}-values.yaml")
}

impl Helm {
    fn shape(&self, name: &str) -> Vec<Value> {
        self.template("demo", &[&values(name)]).unwrap()
    }
}

fn only<'d>(documents: &'d [Value], kind: &str) -> &'d Value {
    let mut found = documents.iter().filter(|one| one["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two {kind}");
    one
}

fn kinds(documents: &[Value]) -> BTreeSet<&str> {
    let kinds = documents.iter().map(|one| one["kind"].as_str().unwrap());
    kinds.collect()
}

fn workload(documents: &[Value]) -> &Value {
    let kind = if kinds(documents).contains("Deployment") {
        "Deployment"
    } else {
        "StatefulSet"
    };
    only(documents, kind)
}

fn pod(documents: &[Value]) -> &Value {
    &workload(documents)["spec"]["template"]["spec"]
}

fn container(documents: &[Value]) -> &Value {
    let containers = pod(documents)["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn variables(documents: &[Value]) -> Vec<(&str, &Value)> {
    let list = container(documents)["env"].as_array().unwrap();
    list.iter()
        .map(|one| (one["name"].as_str().unwrap(), one))
        .collect()
}

fn variable<'d>(documents: &'d [Value], name: &str) -> &'d Value {
    let found = variables(documents).into_iter().find(|one| one.0 == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

/// Every variable that `marrowflag serve` reads.
fn known_variables() -> BTreeSet<String> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    serve
        .get_arguments()
        .chain(command.get_arguments())
        .filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
        .collect()
}

fn schema() -> Value {
    let text = fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// `maxBody` is `MARROWFLAG_MAX_BODY`.
fn variable_of(setting: &str) -> String {
    let mut name = "MARROWFLAG_".to_owned();
    for letter in setting.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[test]
fn it_lints_without_a_warning() {
    let Some(helm) = helm("it_lints_without_a_warning") else {
        return;
    };
    for name in ["sqlite", "postgresql", "everything"] {
        let (content, text) = helm.lint(&[&values(name)]);
        assert!(content && !text.contains("[WARNING]"), "{name}: {text}");
    }
}

#[test]
fn without_a_word_about_insecurity_it_is_refused() {
    let Some(helm) = helm("without_a_word_about_insecurity_it_is_refused") else {
        return;
    };
    let (content, text) = helm.lint(&[]);
    assert!(!content && text.contains("insecure"), "{text}");
}

#[test]
fn by_default_it_is_one_replica_with_a_volume() {
    let Some(helm) = helm("by_default_it_is_one_replica_with_a_volume") else {
        return;
    };
    let documents = helm.shape("sqlite");
    assert_eq!(
        kinds(&documents),
        BTreeSet::from(["Service", "ServiceAccount", "StatefulSet"])
    );
    let set = workload(&documents);
    assert_eq!(set["spec"]["replicas"], 1);
    assert_eq!(
        set["spec"]["serviceName"],
        only(&documents, "Service")["metadata"]["name"]
    );
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"], "data");
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "10Gi");
    assert_eq!(
        variable(&documents, "MARROWFLAG_DATABASE")["value"],
        "sqlite:/data/marrowflag.db"
    );
    let mounts = container(&documents)["volumeMounts"].as_array().unwrap();
    let paths: Vec<_> = mounts.iter().map(|mount| &mount["mountPath"]).collect();
    assert_eq!(paths, ["/tmp", "/data"], "its key lies on the volume");
    assert!(pod(&documents)["affinity"].is_null());
}

#[test]
fn a_claim_that_exists_is_used() {
    let Some(helm) = helm("a_claim_that_exists_is_used") else {
        return;
    };
    let flag = "--set=database.sqlite.existingClaim=restored";
    let documents = helm.template("demo", &[&values("sqlite"), flag]).unwrap();
    assert!(workload(&documents)["spec"]["volumeClaimTemplates"].is_null());
    let volumes = pod(&documents)["volumes"].as_array().unwrap();
    let data = volumes.iter().find(|one| one["name"] == "data").unwrap();
    assert_eq!(data["persistentVolumeClaim"]["claimName"], "restored");
}

#[test]
fn by_one_value_it_is_several_replicas_on_postgresql() {
    let Some(helm) = helm("by_one_value_it_is_several_replicas_on_postgresql") else {
        return;
    };
    let documents = helm.shape("postgresql");
    assert_eq!(
        kinds(&documents),
        BTreeSet::from([
            "Deployment",
            "PodDisruptionBudget",
            "Service",
            "ServiceAccount"
        ])
    );
    let deployment = workload(&documents);
    assert_eq!(deployment["spec"]["replicas"], 3);
    let budget = only(&documents, "PodDisruptionBudget");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);

    let database = variable(&documents, "MARROWFLAG_DATABASE");
    assert!(database["value"].is_null());
    assert_eq!(
        database["valueFrom"]["secretKeyRef"],
        json!({ "name": "marrowflag-database", "key": "url" })
    );
    let volumes = pod(&documents)["volumes"].as_array().unwrap();
    let files = volumes.iter().find(|one| one["name"] == "files").unwrap();
    assert_eq!(files["projected"]["defaultMode"], 0o440);
    assert_eq!(
        files["projected"]["sources"],
        json!([{ "secret": { "name": "marrowflag-identity",
            "items": [{ "key": "identity-key", "path": "identity-key" }] } }])
    );
    assert!(volumes.iter().all(|one| one["name"] != "data"));

    let apart = &pod(&documents)["affinity"]["podAntiAffinity"];
    let term = &apart["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(term["labelSelector"], deployment["spec"]["selector"]);

    let flags = [
        &values("postgresql"),
        "--set=antiAffinity=required",
        "--set=replicaCount=1",
    ];
    let documents = helm.template("demo", &flags).unwrap();
    assert!(
        !kinds(&documents).contains("PodDisruptionBudget"),
        "one replica with a budget could never be moved"
    );
    let apart = &pod(&documents)["affinity"]["podAntiAffinity"];
    assert!(apart["requiredDuringSchedulingIgnoredDuringExecution"].is_array());
}

#[test]
fn every_pod_is_confined_and_probed() {
    let Some(helm) = helm("every_pod_is_confined_and_probed") else {
        return;
    };
    for name in ["sqlite", "postgresql", "everything"] {
        let documents = helm.shape(name);
        let pod = pod(&documents);
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        assert_eq!(pod["terminationGracePeriodSeconds"], 40, "{name}");
        let account = only(&documents, "ServiceAccount");
        assert_eq!(account["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");

        let container = container(&documents);
        assert_eq!(
            container["securityContext"],
            json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] } }),
            "{name}"
        );
        assert_eq!(container["args"], json!(["serve"]), "{name}");
        for (probe, path) in [
            ("startupProbe", "/readyz"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ] {
            let get = &container[probe]["httpGet"];
            assert_eq!(*get, json!({ "path": path, "port": "http" }), "{name}");
        }
        let startup = &container["startupProbe"];
        let patience = startup["periodSeconds"].as_u64().unwrap()
            * startup["failureThreshold"].as_u64().unwrap();
        assert_eq!(patience, 600, "a migration may take ten minutes");
        assert!(container["resources"]["limits"]["memory"].is_string());

        let service = &only(&documents, "Service")["spec"];
        assert_eq!(service["type"], "ClusterIP", "{name}");
        assert_eq!(service["ports"][0]["targetPort"], "http", "{name}");
        assert_eq!(container["ports"][0]["name"], "http", "{name}");
        let port = container["ports"][0]["containerPort"].as_u64().unwrap();
        let listen = &variable(&documents, "MARROWFLAG_LISTEN")["value"];
        assert_eq!(*listen, format!("0.0.0.0:{port}"), "{name}");
    }
}

#[test]
fn what_selects_pods_finds_them() {
    let Some(helm) = helm("what_selects_pods_finds_them") else {
        return;
    };
    for name in ["sqlite", "postgresql", "everything"] {
        let documents = helm.shape(name);
        let workload = workload(&documents);
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        let service = only(&documents, "Service");
        let mut selectors = vec![
            &workload["spec"]["selector"]["matchLabels"],
            &service["spec"]["selector"],
        ];
        for one in &documents {
            match one["kind"].as_str().unwrap() {
                "PodDisruptionBudget" => selectors.push(&one["spec"]["selector"]["matchLabels"]),
                "NetworkPolicy" => selectors.push(&one["spec"]["podSelector"]["matchLabels"]),
                "ServiceMonitor" => {
                    let wanted = one["spec"]["selector"]["matchLabels"].as_object().unwrap();
                    for (key, value) in wanted {
                        assert_eq!(service["metadata"]["labels"][key], *value);
                    }
                }
                _ => {}
            }
        }
        for selector in selectors {
            for (key, value) in selector.as_object().unwrap() {
                assert_eq!(labels[key], *value, "{name}");
            }
        }
    }
}

#[test]
fn a_long_name_of_a_release_stays_a_name() {
    let Some(helm) = helm("a_long_name_of_a_release_stays_a_name") else {
        return;
    };
    // Helm takes at most 53 letters.
    let release = "haematology-of-the-university-hospital-of-the-capitol";
    let documents = helm.template(release, &[&values("sqlite")]).unwrap();
    for one in &documents {
        let name = one["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 52 && !name.ends_with('-'), "{name}");
    }
}

#[test]
fn what_is_optional_comes_when_asked_for() {
    let Some(helm) = helm("what_is_optional_comes_when_asked_for") else {
        return;
    };
    let documents = helm.shape("everything");
    let policy = &only(&documents, "NetworkPolicy")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["ingress"][0]["ports"][0]["port"], "http");
    assert!(policy["ingress"][0]["from"][0]["namespaceSelector"].is_object());
    let dns = &policy["egress"][0];
    assert!(dns["to"].is_null() && dns["ports"][0]["port"] == 53);
    assert_eq!(
        policy["egress"][1]["to"][0]["ipBlock"]["cidr"],
        "10.1.2.3/32"
    );
    let monitor = only(&documents, "ServiceMonitor");
    assert_eq!(monitor["spec"]["endpoints"][0]["path"], "/metrics");
    let annotations = &workload(&documents)["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], "8080");
    let image = container(&documents)["image"].as_str().unwrap();
    assert!(image.contains("marrowflag@sha256:"), "{image}");
    let connections = variable(&documents, "MARROWFLAG_MAX_CONNECTIONS");
    assert_eq!(connections["value"], "2000000", "not 2e+06");
    let clients = variable(&documents, "MARROWFLAG_CLIENTS");
    assert_eq!(clients["value"], "/etc/marrowflag/clients/clients.toml");
    let volumes = pod(&documents)["volumes"].as_array().unwrap();
    let clients = volumes.iter().find(|one| one["name"] == "clients").unwrap();
    assert_eq!(clients["secret"]["secretName"], "marrowflag-clients");
    assert_eq!(clients["secret"]["defaultMode"], 0o440);
}

/// Secrets stay files: each is mounted where its variable says.
#[test]
fn credentials_for_the_fhir_server_are_mounted_where_they_are_looked_for() {
    let Some(helm) = helm("credentials_for_the_fhir_server_are_mounted_where_they_are_looked_for")
    else {
        return;
    };
    let documents = helm.shape("everything");
    for (name, path) in [
        ("SMART", "/etc/marrowflag/smart/smart.toml"),
        (
            "CLIENT_CERT",
            "/etc/marrowflag/files/fhir-server-client.crt",
        ),
        ("CLIENT_KEY", "/etc/marrowflag/files/fhir-server-client.key"),
        ("CA", "/etc/marrowflag/files/fhir-server-ca.crt"),
    ] {
        let variable = variable(&documents, &format!("MARROWFLAG_FHIR_SERVER_{name}"));
        assert_eq!(variable["value"], path);
    }
    let volume = |name: &str| {
        let volumes = pod(&documents)["volumes"].as_array().unwrap();
        volumes
            .iter()
            .find(|one| one["name"] == name)
            .unwrap()
            .clone()
    };
    let smart = &volume("smart")["secret"];
    assert_eq!(smart["secretName"], "marrowflag-smart");
    assert_eq!(smart["defaultMode"], 0o440);
    let sources = volume("files")["projected"]["sources"].clone();
    let items = |kind: &str, name: &str| {
        let mut all = sources.as_array().unwrap().iter();
        all.find(|one| one[kind]["name"] == name).unwrap()[kind]["items"].clone()
    };
    assert_eq!(
        items("secret", "marrowflag-client"),
        json!([
            { "key": "tls.crt", "path": "fhir-server-client.crt" },
            { "key": "tls.key", "path": "fhir-server-client.key" }
        ])
    );
    assert_eq!(
        items("configMap", "hospital-ca"),
        json!([{ "key": "ca.crt", "path": "fhir-server-ca.crt" }])
    );
    let flags = [
        &values("sqlite"),
        "--set=fhirServer.url=https://h/fhir",
        "--set=fhirServer.token.existingSecret=marrowflag-fhir-server",
    ];
    let documents = helm.template("demo", &flags).unwrap();
    let token = variable(&documents, "MARROWFLAG_FHIR_SERVER_TOKEN_FILE");
    assert_eq!(token["value"], "/etc/marrowflag/files/fhir-server-token");
}

#[test]
fn only_variables_that_the_service_reads_are_set_once_each_and_no_secret_among_them() {
    let test = "only_variables_that_the_service_reads_are_set_once_each_and_no_secret_among_them";
    let Some(helm) = helm(test) else { return };
    let known = known_variables();
    for name in ["sqlite", "postgresql", "everything"] {
        let documents = helm.shape(name);
        assert!(!kinds(&documents).contains("Secret"), "{name}");
        let mut seen = BTreeSet::new();
        for (variable, one) in variables(&documents) {
            assert!(known.contains(variable), "{name}: {variable}");
            assert!(seen.insert(variable), "{name}: {variable} twice");
            if variable.ends_with("_FILE") {
                let path = one["value"].as_str().unwrap();
                assert!(path.starts_with("/etc/marrowflag/"), "{name}: {path}");
            }
        }
    }
}

#[test]
fn every_flag_of_the_service_can_be_given() {
    let schema = schema();
    let settings = &schema["properties"]["settings"]["properties"];
    let mut given: BTreeSet<String> = settings
        .as_object()
        .unwrap()
        .keys()
        .map(|key| variable_of(key))
        .collect();
    given.extend(DERIVED.iter().map(|&name| name.to_owned()));
    given.extend(LEFT_OUT.iter().map(|&(name, _)| name.to_owned()));
    assert_eq!(
        given,
        known_variables(),
        "a flag of serve needs a place in `settings` of values.schema.json, in the templates, or in LEFT_OUT"
    );
}

#[test]
fn values_that_would_be_dangerous_or_could_not_work_are_refused() {
    let Some(helm) = helm("values_that_would_be_dangerous_or_could_not_work_are_refused") else {
        return;
    };
    let sqlite = values("sqlite");
    let postgresql = values("postgresql");
    for (base, flag, complaint) in [
        (&sqlite, "insecure=false", "insecure"),
        (&sqlite, "insecure=null", "insecure"),
        (&sqlite, "image.repository=", "image.repository"),
        (&sqlite, "image.digest=sha256:abc", "image.digest"),
        (&sqlite, "database.kind=mysql", "database.kind"),
        // Two processes on one SQLite file.
        (&sqlite, "replicaCount=2", "replicaCount"),
        (&sqlite, "replicaCount=0", "replicaCount"),
        (
            &sqlite,
            "database.sqlite.accessMode=ReadWriteMany",
            "accessMode",
        ),
        (&sqlite, "database.sqlite.size=lots", "size"),
        // PostgreSQL without its Secrets, or with a password among the values.
        (&sqlite, "database.kind=postgresql", "existingSecret"),
        (&postgresql, "identityKey.existingSecret=", "identityKey"),
        (
            &postgresql,
            "database.postgresql.existingSecret=",
            "existingSecret",
        ),
        (
            &postgresql,
            "database.postgresql.url=postgres://u:p@h/d",
            "url",
        ),
        (&sqlite, "identityKey.value=00ff", "value"),
        (&sqlite, "fhirServer.token.value=secret", "value"),
        // A token for no server, and a URL with a password.
        (
            &sqlite,
            "fhirServer.token.existingSecret=token",
            "fhirServer",
        ),
        (
            &sqlite,
            "fhirServer.smart.existingSecret=smart",
            "fhirServer",
        ),
        (
            &sqlite,
            "fhirServer.url=https://h/fhir,fhirServer.token.existingSecret=token,fhirServer.smart.existingSecret=smart",
            "fhirServer.smart",
        ),
        (
            &sqlite,
            "fhirServer.clientCertificate.key=a b",
            "clientCertificate",
        ),
        (
            &sqlite,
            "fhirServer.url=https://u:p@h/fhir",
            "fhirServer.url",
        ),
        (&sqlite, "fhirServer.url=ftp://h/fhir", "fhirServer.url"),
        // Beyond the cluster although nobody is asked who they are.
        (&sqlite, "service.type=LoadBalancer", "type"),
        // A policy that lets everybody in.
        (&sqlite, "networkPolicy.enabled=true", "ingressFrom"),
        (&sqlite, "settings.asOf=yesterday", "asOf"),
        (&sqlite, "settings.maxBody=8MB", "maxBody"),
        (&sqlite, "settings.deadline=forever", "deadline"),
        (&sqlite, "settings.receiptRetention=0", "receiptRetention"),
        (&sqlite, "settings.organization=haematology", "organization"),
        // A misspelt name.
        (&sqlite, "settings.maxbody=8MiB", "maxbody"),
        (&sqlite, "resource.limits.memory=1Gi", "resource"),
    ] {
        let flag = format!("--set={flag}");
        let refused = helm.template("demo", &[base, &flag]);
        let text = refused.expect_err(&flag);
        assert!(
            text.contains("values don't meet the specifications") && text.contains(complaint),
            "{flag}: {text}"
        );
    }
}

#[test]
fn the_service_starts_with_the_variables_of_the_chart() {
    let Some(helm) = helm("the_service_starts_with_the_variables_of_the_chart") else {
        return;
    };
    let documents = helm.template("marrowflag", &[&values("sqlite")]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().display().to_string();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_marrowflag"));
    for (name, one) in variables(&documents) {
        let value = one["value"].as_str().unwrap();
        serve.env(name, value.replace("/data", &data).replace(":8080", ":0"));
    }
    let mut child = serve
        .args(
            container(&documents)["args"]
                .as_array()
                .unwrap()
                .iter()
                .map(|word| word.as_str().unwrap()),
        )
        // What Kubernetes injects for a Service of that name where links are not switched off.
        .env("MARROWFLAG_PORT", "tcp://10.0.0.1:80")
        .env("MARROWFLAG_PORT_80_TCP", "tcp://10.0.0.1:80")
        .env("MARROWFLAG_SERVICE_HOST", "10.0.0.1")
        .env("MARROWFLAG_SERVICE_PORT", "80")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert!(line.contains("listening on http://0.0.0.0:"), "{line:?}");
    assert!(
        directory.path().join("marrowflag.db.identity-key").exists(),
        "the notes name this file"
    );
}

#[test]
fn the_image_is_what_the_chart_expects() {
    let root = env!("CARGO_MANIFEST_DIR");
    let dockerfile = fs::read_to_string(format!("{root}/Dockerfile")).unwrap();
    let pod = fs::read_to_string(format!("{CHART}/templates/_pod.tpl")).unwrap();
    for (of_the_image, of_the_chart) in [
        ("USER 65532", "runAsUser: 65532"),
        ("--chown=65532:65532 /data", "fsGroup: 65532"),
        ("VOLUME /data", "mountPath: /data"),
        ("EXPOSE 8080", "containerPort: 8080"),
        ("marrowflag\"]", "args: [serve]"),
    ] {
        assert!(dockerfile.contains(of_the_image), "{of_the_image}");
        assert!(pod.contains(of_the_chart), "{of_the_chart}");
    }
    let chart = fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    let version = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(chart.contains(&version), "{version}");
}
