//! Each trap of a faithful copy, on documents as the engine writes them.

use super::*;

const ID: &str = "4f5e6d7c8b9a0123456789abcdef0123456789abcdef0123456789abcdef0123";

/// A container as `docker create --name t1 shop-test:1` makes it, with these changes: pointer, value.
fn original(changes: &[(&str, Value)]) -> Container {
    let mut document = json!({
        "Id": ID, "Name": "/t1", "Image": "sha256:aa", "Created": "2024-05-01T10:00:00Z",
        "State": { "Status": "exited", "Running": false, "ExitCode": 0 },
        "Config": {
            "Hostname": "4f5e6d7c8b9a", "Image": "shop-test:1", "Env": ["PATH=/bin"], "Cmd": ["/test"],
            "Entrypoint": null, "Labels": { "tugbot.test": "", "team": "shop" }, "Volumes": null,
        },
        "HostConfig": {
            "NetworkMode": "default", "AutoRemove": false, "PortBindings": {}, "Links": null, "UTSMode": "",
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "ShmSize": 67_108_864,
        },
        "Mounts": [],
        "NetworkSettings": { "Networks": { "bridge": {
            "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "b1", "EndpointID": "e1",
            "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2", "MacAddress": "02:42:ac:11:00:02",
        } } },
    });
    for (pointer, value) in changes {
        set(&mut document, pointer, value.clone());
    }
    Container::from_document(document).unwrap()
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}"))[key] = value;
}

fn image(config: Value, tags: &[&str]) -> Image {
    Image::from_document(json!({ "Id": "sha256:aa", "RepoTags": tags, "Config": config })).unwrap()
}

fn request() -> CopyRequest {
    CopyRequest { name: "t1-copy".into(), ..Default::default() }
}

/// The plan of a copy on the same image.
fn copy(changes: &[(&str, Value)]) -> CopyPlan {
    plan(&original(changes), None, &request())
}

fn at<'a>(plan: &'a CopyPlan, pointer: &str) -> &'a Value {
    plan.create.pointer(pointer).unwrap_or(&Value::Null)
}

fn running() -> (&'static str, Value) {
    ("/State", json!({ "Status": "running", "Running": true }))
}

fn network(settings: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("/HostConfig/NetworkMode", json!("shop")),
        ("/NetworkSettings/Networks", json!({ "shop": settings })),
    ]
}

#[test]
fn what_is_not_a_trap_is_copied_whole_even_if_unknown() {
    let host = json!({
        "NetworkMode": "default", "Init": true, "Runtime": "runsc", "NanoCpus": 500_000_000, "PidsLimit": 50,
        "Sysctls": { "net.core.somaxconn": "128" }, "ShmSize": 33_554_432, "MaskedPaths": [], "ReadonlyPaths": null,
        "Mounts": [{ "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1024 } }],
        "Binds": ["/etc:/host-etc:ro", "data:/data"], "FieldOfTheFuture": { "a": [1, 2] },
    });
    let health = json!({ "Test": ["CMD", "true"], "Interval": 1_000_000_000 });
    let plan = copy(&[
        ("/HostConfig", host.clone()),
        ("/Config/Healthcheck", health.clone()),
        ("/Config/StopTimeout", json!(3)),
    ]);
    for (key, value) in host.as_object().unwrap() {
        assert_eq!(at(&plan, "/HostConfig")[key], *value, "{key}");
    }
    assert_eq!(at(&plan, "/Healthcheck"), &health);
    assert_eq!(at(&plan, "/StopTimeout"), 3);
    assert_eq!(plan.name, "t1-copy");
    assert_eq!(plan.remarks, [""; 0]);
}

#[test]
fn a_host_name_that_is_the_old_short_id_is_dropped() {
    assert_eq!(at(&copy(&[]), "/Hostname"), &Value::Null);
    assert_eq!(at(&copy(&[("/Config/Hostname", json!("shop"))]), "/Hostname"), "shop");
    let shares_name = copy(&[("/Config/Hostname", json!("machine")), ("/HostConfig/UTSMode", json!("host"))]);
    assert_eq!(at(&shares_name, "/Hostname"), &Value::Null, "the engine refuses it");
}

#[test]
fn in_anothers_network_nothing_of_a_network_is_asked_for() {
    let plan = copy(&[
        ("/HostConfig/NetworkMode", json!("container:abc")),
        ("/Config/Hostname", json!("the-others")),
        ("/Config/Domainname", json!("example")),
        ("/Config/ExposedPorts", json!({ "80/tcp": {} })),
        ("/NetworkSettings/Networks", json!({})),
    ]);
    for key in ["Hostname", "Domainname", "ExposedPorts", "MacAddress", "NetworkingConfig"] {
        assert_eq!(at(&plan, &format!("/{key}")), &Value::Null, "{key}");
    }
    assert_eq!(at(&plan, "/HostConfig/NetworkMode"), "container:abc");
    assert!(plan.connect.is_empty() && plan.remarks.is_empty(), "{:?}", plan.remarks);
}

#[test]
fn host_and_none_networks_take_no_endpoint_settings() {
    for mode in ["host", "none"] {
        let networks = json!({ mode: { "Aliases": ["web"], "IPAMConfig": {} } });
        let plan = copy(&[("/HostConfig/NetworkMode", json!(mode)), ("/NetworkSettings/Networks", networks)]);
        assert_eq!(at(&plan, "/NetworkingConfig"), &Value::Null);
        assert!(plan.connect.is_empty() && plan.remarks.is_empty());
    }
}

#[test]
fn a_copy_ends_and_stays() {
    let restart = json!({ "Name": "always", "MaximumRetryCount": 0 });
    let plan = copy(&[("/HostConfig/RestartPolicy", restart), ("/HostConfig/AutoRemove", json!(true))]);
    assert_eq!(at(&plan, "/HostConfig/RestartPolicy/Name"), "no");
    assert_eq!(at(&plan, "/HostConfig/AutoRemove"), false);
    assert_eq!(plan.remarks, ["the restart policy always is not copied: a copy runs once"]);
}

#[test]
fn aliases_and_static_addresses_stay_but_the_short_id_and_what_the_engine_chose_go() {
    let plan = copy(&network(json!({
        "IPAMConfig": { "IPv4Address": "10.9.0.7" }, "Links": ["db:database"], "Aliases": ["web", &ID[..12]],
        "DriverOpts": { "a": "b" }, "NetworkID": "n1", "EndpointID": "e1", "Gateway": "10.9.0.1",
        "IPAddress": "10.9.0.7", "IPPrefixLen": 24, "MacAddress": "02:42:0a:09:00:07", "DNSNames": ["t1"],
        "GwPriority": 0,
    })));
    let endpoint = at(&plan, "/NetworkingConfig/EndpointsConfig/shop");
    assert_eq!(
        *endpoint,
        json!({
            "IPAMConfig": { "IPv4Address": "10.9.0.7" }, "Links": ["db:database"], "Aliases": ["web"],
            "DriverOpts": { "a": "b" },
        })
    );
}

#[test]
fn every_network_beyond_the_first_is_connected_before_the_start() {
    let plan = copy(&[
        ("/HostConfig/NetworkMode", json!("shop")),
        (
            "/NetworkSettings/Networks",
            json!({
                "back": { "Aliases": ["t", &ID[..12]], "IPAMConfig": {}, "NetworkID": "n2" },
                "bridge": { "Aliases": ["refused"], "IPAMConfig": { "IPv4Address": "172.17.0.9" } },
                "shop": { "Aliases": null, "NetworkID": "n1" },
            }),
        ),
    ]);
    assert_eq!(at(&plan, "/NetworkingConfig"), &Value::Null, "nothing was chosen for the first");
    let expected = [("back".to_owned(), json!({ "Aliases": ["t"] })), ("bridge".to_owned(), json!({}))];
    assert_eq!(plan.connect, expected, "the default bridge refuses aliases and addresses");
}

#[test]
fn the_first_network_may_be_named_by_its_id() {
    let id = "0123456789abcdef0123456789abcdef";
    let plan = copy(&[
        ("/HostConfig/NetworkMode", json!(id)),
        ("/NetworkSettings/Networks", json!({ "shop": { "Aliases": ["web"], "NetworkID": id } })),
    ]);
    assert_eq!(at(&plan, "/NetworkingConfig/EndpointsConfig/shop/Aliases/0"), "web");
    assert!(plan.connect.is_empty() && plan.remarks.is_empty());
}

#[test]
fn a_network_that_was_left_is_remarked() {
    let plan = copy(&[
        ("/HostConfig/NetworkMode", json!("shop")),
        ("/NetworkSettings/Networks", json!({ "back": {} })),
    ]);
    assert_eq!(plan.remarks, ["the original was taken off its network shop, but a copy begins on it"]);
}

#[test]
fn an_automatic_mac_is_dropped_and_a_chosen_one_kept() {
    assert_eq!(at(&copy(&[]), "/NetworkingConfig"), &Value::Null);
    let stale = copy(&[("/Config/MacAddress", json!("02:42:AC:11:00:02"))]);
    assert_eq!(at(&stale, "/MacAddress"), &Value::Null);
    let chosen = ("/Config/MacAddress", json!("02:00:00:00:00:99"));
    assert_eq!(at(&copy(std::slice::from_ref(&chosen)), "/MacAddress"), "02:00:00:00:00:99");
    let held = copy(&[chosen, running()]);
    assert_eq!(at(&held, "/MacAddress"), &Value::Null);
    assert_eq!(held.remarks.len(), 1);
}

#[test]
fn ports_and_addresses_that_the_original_holds_are_let_go() {
    let ports = json!({
        "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080" }, { "HostIp": "", "HostPort": "" }],
        "90/tcp": null,
    });
    let mut changes =
        network(json!({ "IPAMConfig": { "IPv4Address": "10.9.0.7", "LinkLocalIPs": ["169.254.0.9"] } }));
    changes.push(("/HostConfig/PortBindings", ports.clone()));
    let free = copy(&changes);
    assert_eq!(at(&free, "/HostConfig/PortBindings"), &ports, "an original that has ended holds nothing");
    assert_eq!(free.remarks, [""; 0]);

    changes.push(running());
    let held = copy(&changes);
    assert_eq!(
        at(&held, "/HostConfig/PortBindings/80~1tcp/0"),
        &json!({ "HostIp": "127.0.0.1", "HostPort": "" })
    );
    let address = at(&held, "/NetworkingConfig/EndpointsConfig/shop/IPAMConfig");
    assert_eq!(address, &json!({ "LinkLocalIPs": ["169.254.0.9"] }));
    assert_eq!(
        held.remarks,
        [
            "t1 still holds host port 8080 for 80/tcp: the copy gets a free one",
            "the original still uses 10.9.0.7 on shop: the copy gets another address",
        ]
    );
}

#[test]
fn links_are_given_in_the_form_the_engine_takes() {
    let plan = copy(&[("/HostConfig/Links", json!(["/shop-db:/t1/db", "cache:c"]))]);
    assert_eq!(at(&plan, "/HostConfig/Links"), &json!(["shop-db:db", "cache:c"]));
}

#[test]
fn an_anonymous_volume_is_fresh_and_a_named_one_shared() {
    let mounts = json!([
        { "Type": "volume", "Name": ID, "Source": "/var/lib/x", "Destination": "/scratch" },
        { "Type": "volume", "Name": "data", "Source": "/var/lib/y", "Destination": "/data" },
    ]);
    let plan = copy(&[
        ("/Mounts", mounts),
        ("/Config/Volumes", json!({ "/scratch": {} })),
        ("/HostConfig/Binds", json!(["data:/data"])),
    ]);
    assert_eq!(at(&plan, "/Volumes"), &json!({ "/scratch": {} }));
    assert!(!plan.create.to_string().contains(ID), "no id of a volume goes over");
}

#[test]
fn labels_are_added_and_taken_off() {
    let request = CopyRequest {
        labels: [("tugbot.created.from".to_owned(), "t1".to_owned())].into(),
        without_labels: vec!["team".into(), "of-image".into(), "absent".into()],
        ..request()
    };
    let original = original(&[("/Config/Labels/of-image", json!("1"))]);
    let image = image(json!({ "Labels": { "of-image": "1" } }), &[]);
    let plan = plan(&original, Some(&image), &request);
    assert_eq!(at(&plan, "/Labels"), &json!({ "tugbot.test": "", "tugbot.created.from": "t1" }));
    assert_eq!(plan.remarks, ["the label of-image comes from the image and cannot be taken off"]);
}

#[test]
fn the_images_name_is_kept_only_while_it_means_the_same_image() {
    let of = |made_from: Option<&Image>| at(&plan(&original(&[]), made_from, &request()), "/Image").clone();
    assert_eq!(of(Some(&image(json!({}), &["docker.io/library/shop-test:1"]))), "shop-test:1");
    assert_eq!(of(Some(&image(json!({}), &["shop-test:old"]))), "sha256:aa");
    assert_eq!(of(None), "sha256:aa");
}

/// The configuration of a copy on a newer image.
fn on_newer(config: Value, defaults: Value) -> Value {
    let original = original(&[("/Config", config)]);
    let image = image(defaults, &["shop-test:1"]);
    let request = CopyRequest { image: Some("shop-test:1".into()), ..request() };
    let mut create = plan(&original, Some(&image), &request).create;
    let kept = create.as_object_mut().unwrap();
    kept.retain(|key, value| key != "HostConfig" && key != "Image" && *value != json!({}));
    create
}

#[test]
fn the_old_images_defaults_are_not_frozen() {
    let defaults = json!({
        "Env": ["PATH=/bin", "MODE=old"], "Cmd": ["/old"], "Entrypoint": ["/entry"], "User": "app",
        "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "Shell": ["/bin/ash"], "Labels": { "v": "1" },
        "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} },
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 5 },
    });
    assert_eq!(on_newer(defaults.clone(), defaults.clone()), json!({}));

    let own = json!({
        "Env": ["MODE=mine", "PATH=/bin"], "Cmd": ["/mine"], "Entrypoint": ["/entry"], "User": "me",
        "WorkingDir": "/mine", "StopSignal": "SIGINT", "Shell": ["/bin/sh"], "Labels": { "v": "2", "mine": "" },
        "ExposedPorts": { "80/tcp": {}, "81/tcp": {} }, "Volumes": { "/data": {}, "/mine": {} },
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 9 },
    });
    assert_eq!(
        on_newer(own, defaults),
        json!({
            "Env": ["MODE=mine"], "Cmd": ["/mine"], "User": "me", "WorkingDir": "/mine", "StopSignal": "SIGINT",
            "Shell": ["/bin/sh"], "Labels": { "v": "2", "mine": "" }, "ExposedPorts": { "81/tcp": {} },
            "Volumes": { "/mine": {} }, "Healthcheck": { "Interval": 9 },
        })
    );
}

#[test]
fn an_entry_point_of_ones_own_keeps_its_command() {
    let defaults = json!({ "Entrypoint": ["/entry"], "Cmd": ["/cmd"] });
    let kept = |entrypoint: Value, cmd: Value| {
        on_newer(json!({ "Entrypoint": entrypoint, "Cmd": cmd }), defaults.clone())
    };
    assert_eq!(kept(json!(["/mine"]), json!(["/cmd"])), json!({ "Entrypoint": ["/mine"], "Cmd": ["/cmd"] }));
    assert_eq!(kept(Value::Null, json!(["/cmd"])), json!({ "Entrypoint": [""], "Cmd": ["/cmd"] }));
}

#[test]
fn an_entry_point_that_was_taken_away_stays_away() {
    let image = image(json!({ "Entrypoint": ["/entry"], "Cmd": ["/cmd"] }), &[]);
    let plan = plan(&original(&[]), Some(&image), &request());
    assert_eq!(at(&plan, "/Entrypoint"), &json!([""]));
    assert_eq!(at(&copy(&[]), "/Entrypoint"), &Value::Null);
}

#[test]
fn without_the_old_image_its_defaults_go_over_and_that_is_said() {
    let request = CopyRequest { image: Some("shop-test:2".into()), ..request() };
    let plan = plan(&original(&[]), None, &request);
    assert_eq!((at(&plan, "/Image"), at(&plan, "/Env/0")), (&json!("shop-test:2"), &json!("PATH=/bin")));
    assert_eq!(plan.remarks.len(), 1);
}

#[test]
fn differences_are_found_and_permitted_ones_left_out() {
    let one = original(&[("/Config/Env", json!(["PATH=/bin", "A=1"]))]).document;
    let permitted = original(&[
        ("/Config/Env", json!(["A=1", "PATH=/bin"])),
        ("/Id", json!("99999999999999")),
        ("/Name", json!("/other")),
        ("/Config/Hostname", json!("999999999999")),
        ("/Config/Image", json!("sha256:aa")),
        ("/Config/Labels/tugbot.created.from", json!("t1")),
        ("/HostConfig/RestartPolicy", json!({ "Name": "always" })),
        ("/HostConfig/AutoRemove", json!(true)),
        ("/NetworkSettings/Networks/bridge/IPAddress", json!("172.17.0.3")),
    ]);
    assert_eq!(differences(&one, &permitted.document), [""; 0]);
    let wrong = original(&[
        ("/Config/Env", json!(["PATH=/bin", "A=2"])),
        ("/Image", json!("sha256:bb")),
        ("/HostConfig/ShmSize", json!(1)),
        ("/Config/Labels", json!({ "team": "shop" })),
        ("/NetworkSettings/Networks/bridge/Aliases", json!(["x"])),
        ("/Mounts", json!([{ "Type": "volume", "Name": ID, "Destination": "/d" }])),
    ]);
    let found = differences(&one, &wrong.document);
    assert_eq!(
        found.iter().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>(),
        [
            "Config.Env",
            "Config.Labels.tugbot.test",
            "HostConfig.ShmSize",
            "Image",
            "Mounts",
            "Networks.bridge.Aliases"
        ],
        "{found:?}"
    );
}
