//! Requests as odd clients send them, and answers byte for byte.

use super::from_slice;
use crate::api::{
    ContainerConfig, ContainerCreateRequest, ContainerState, ContainerUpdateRequest, Empty,
    EndpointSettings, HostConfig, MountPoint, Port, PortBinding, Resources,
};

#[test]
fn keys_match_without_case_and_null_is_zero() {
    let request: ContainerCreateRequest = from_slice(
        br#"{"hostname":"h","TTY":true,"Env":null,"cmd":"top","image":"busybox","unknown":{"a":[1]},
            "Labels":null,"exposedports":{"80/tcp":{}},"Healthcheck":null,
            "hostconfig":{"memory":67108864,"CAPADD":["NET_ADMIN"],"Binds":null,"networkmode":"host",
              "PortBindings":{"80/tcp":null,"81/tcp":[{"hostport":"8081"}]},"PidsLimit":null,
              "Ulimits":[{"name":"nofile","soft":1,"hard":2}], "RestartPolicy":null},
            "NetworkingConfig":{"EndpointsConfig":{"net":null}}}"#,
    )
    .unwrap();
    assert_eq!(request.config.hostname, "h");
    assert!(request.config.tty);
    assert_eq!(request.config.cmd, Some(vec!["top".to_owned()]));
    assert_eq!(request.config.exposed_ports["80/tcp"], Empty {});
    assert_eq!(request.config.env, Vec::<String>::new());
    let host = &request.host_config;
    assert_eq!(host.resources.memory, 64 << 20);
    assert_eq!(host.resources.pids_limit, None);
    assert_eq!(host.resources.ulimits.as_ref().unwrap()[0].hard, 2);
    assert_eq!(host.cap_add, Some(vec!["NET_ADMIN".to_owned()]));
    assert_eq!(host.network_mode, "host");
    let ports = host.port_bindings.as_ref().unwrap();
    assert_eq!(ports["80/tcp"], None);
    let binding = PortBinding {
        host_ip: String::new(),
        host_port: "8081".to_owned(),
    };
    assert_eq!(ports["81/tcp"], Some(vec![binding]));
    let networks = request.networking_config.unwrap().endpoints_config;
    assert_eq!(networks["net"], EndpointSettings::default());
}

#[test]
fn the_last_of_two_spellings_wins_and_wrong_types_are_refused() {
    let config: ContainerConfig = from_slice(br#"{"User":"a","user":"b"}"#).unwrap();
    assert_eq!(config.user, "b");
    for bad in [
        r#"{"Env":"A=b"}"#,
        r#"{"Tty":1}"#,
        "[]",
        r#"{"Labels":["a"]}"#,
        "{",
    ] {
        assert!(
            from_slice::<ContainerConfig>(bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn a_host_config_prints_as_docker_prints_it() {
    let mut config = HostConfig {
        binds: Some(Vec::new()),
        resources: Resources {
            nano_cpus: 5,
            ..Resources::default()
        },
        ..HostConfig::default()
    };
    config.log_config.r#type = "json-file".to_owned();
    let text = serde_json::to_string(&config).unwrap();
    let wanted = concat!(
        r#"{"Binds":[],"ContainerIDFile":"","LogConfig":{"Type":"json-file","Config":{}},"#,
        r#""NetworkMode":"","PortBindings":null,"RestartPolicy":{"Name":"","MaximumRetryCount":0},"#,
        r#""AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"#,
        r#""CapDrop":null,"CgroupnsMode":"","Dns":null,"DnsOptions":null,"DnsSearch":null,"#,
        r#""ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"#,
        r#""PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"#,
        r#""SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"#,
        r#""Memory":0,"NanoCpus":5,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":null,"#,
        r#""BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,"BlkioDeviceReadIOps":null,"#,
        r#""BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"#,
        r#""CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":null,"#,
        r#""DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"#,
        r#""MemorySwappiness":null,"OomKillDisable":null,"PidsLimit":null,"Ulimits":null,"CpuCount":0,"#,
        r#""CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"#,
        r#""ReadonlyPaths":null}"#,
    );
    assert_eq!(text, wanted);
    assert_eq!(from_slice::<HostConfig>(text.as_bytes()).unwrap(), config);
    assert_eq!(serde_json::from_str::<HostConfig>(&text).unwrap(), config);
}

#[test]
fn an_update_keeps_its_flat_form() {
    let update: ContainerUpdateRequest =
        from_slice(br#"{"memory":7,"RestartPolicy":{"Name":"always"}}"#).unwrap();
    assert_eq!(update.resources.memory, 7);
    assert_eq!(update.restart_policy.name, "always");
    let text = serde_json::to_string(&update).unwrap();
    assert!(text.starts_with(r#"{"CpuShares":0,"Memory":7,"#), "{text}");
    assert!(
        text.ends_with(r#""RestartPolicy":{"Name":"always","MaximumRetryCount":0}}"#),
        "{text}"
    );
}

#[test]
fn initials_are_written_as_docker_writes_them() {
    let print = |value: serde_json::Value| value.to_string();
    let mount = serde_json::to_value(MountPoint::default()).unwrap();
    assert_eq!(
        print(mount),
        r#"{"Source":"","Destination":"","Mode":"","RW":false,"Propagation":""}"#
    );
    let port = Port {
        ip: "::".to_owned(),
        private_port: 80,
        public_port: 0,
        r#type: "tcp".to_owned(),
    };
    assert_eq!(
        serde_json::to_string(&port).unwrap(),
        r#"{"IP":"::","PrivatePort":80,"Type":"tcp"}"#
    );
    let state = serde_json::to_string(&ContainerState::default()).unwrap();
    assert!(state.contains(r#""OOMKilled":false"#), "{state}");
    assert!(
        state.ends_with(r#""FinishedAt":"0001-01-01T00:00:00Z"}"#),
        "{state}"
    );
    let endpoint = serde_json::to_string(&EndpointSettings::default()).unwrap();
    assert!(
        endpoint.starts_with(r#"{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"""#)
    );
    assert!(
        endpoint.ends_with(r#""GlobalIPv6PrefixLen":0,"DNSNames":null}"#),
        "{endpoint}"
    );
}
