"""What Dragonfly 1.x's commands take, as data: flags (cmd/*/app/root.go), keys (*/config/config.go), exit codes, reasons.

A default is written as 1.x prints it. Where ours differs on purpose, DELIBERATE says so, and docs/compatibility.md to the user.
"""

from typing import Final

#: long name: (short name, kind, default).
DFGET_FLAGS: Final = {
    "url": ("u", "string", ""),
    "output": ("o", "string", ""),
    "locallimit": ("s", "rate", "20MB"),
    "minrate": ("", "rate", "64KB"),
    "totallimit": ("", "rate", "0B"),
    "timeout": ("e", "duration", "0s"),
    "md5": ("m", "string", ""),
    "identifier": ("i", "string", ""),
    "callsystem": ("", "string", ""),
    "cacerts": ("", "strings", ""),
    "pattern": ("p", "string", "p2p"),
    "filter": ("f", "string", ""),
    "header": ("", "strings", ""),
    "node": ("n", "nodes", "127.0.0.1:8002=1"),
    "notbs": ("", "bool", "false"),
    "dfdaemon": ("", "bool", "false"),
    "insecure": ("", "bool", "false"),
    "clientqueue": ("", "int", "6"),
    "showbar": ("b", "bool", "false"),
    "console": ("", "bool", "false"),
    "verbose": ("", "bool", "false"),
    "home": ("", "string", "$HOME/.small-dragonfly"),
    "ip": ("", "string", ""),
    "port": ("", "int", "0"),
    "expiretime": ("", "duration", "3m0s"),
    "alivetime": ("", "duration", "5m0s"),
}

DFGET_SERVER_FLAGS: Final = {
    "alivetime": ("", "duration", "5m0s"),
    "expiretime": ("", "duration", "3m0s"),
    "data": ("", "string", ""),
    "home": ("", "string", ""),
    "ip": ("", "string", ""),
    "meta": ("", "string", ""),
    "port": ("", "int", "0"),
    "verbose": ("", "bool", "false"),
}

DFDAEMON_FLAGS: Final = {
    "config": ("", "string", "/etc/dragonfly/dfdaemon.yml"),
    "verbose": ("", "bool", "false"),
    "maxprocs": ("", "int", "4"),
    "hostIp": ("", "string", "127.0.0.1"),
    "port": ("", "int", "65001"),
    "peerPort": ("", "int", "0"),
    "streamMode": ("", "bool", "false"),
    "certpem": ("", "string", ""),
    "keypem": ("", "string", ""),
    "registry": ("", "string", "https://index.docker.io"),
    "localrepo": ("", "string", ""),
    "workHome": ("", "string", "$HOME/.small-dragonfly"),
    "dfpath": ("", "string", ""),
    "ratelimit": ("", "rate", "20MB"),
    "node": ("", "nodes", ""),
}

GEN_CA_FLAGS: Final = {
    "common-name": ("", "string", "<hostname>"),
    "expire-duration": ("", "duration", "87600h0m0s"),
    "key-output": ("", "string", "/tmp/ca.key"),
    "cert-output": ("", "string", "/tmp/ca.crt"),
    "overwrite": ("", "bool", "false"),
}

SUPERNODE_FLAGS: Final = {
    "config": ("", "string", "/etc/dragonfly/supernode.yml"),
    "cdn-pattern": ("", "string", "local"),
    "port": ("", "int", "8002"),
    "download-port": ("", "int", "8001"),
    "home-dir": ("", "string", "/home/admin/supernode"),
    "system-bandwidth": ("", "rate", "20MB"),
    "max-bandwidth": ("", "rate", "200MB"),
    "pool-size": ("", "int", "10"),
    "profiler": ("", "bool", "false"),
    "debug": ("D", "bool", "false"),
    "up-limit": ("", "int", "5"),
    "down-limit": ("", "int", "4"),
    "advertise-ip": ("", "string", ""),
    "fail-access-interval": ("", "duration", "3m0s"),
    "gc-initial-delay": ("", "duration", "6s"),
    "gc-meta-interval": ("", "duration", "2m0s"),
    "task-expire-time": ("", "duration", "3m0s"),
    "peer-gc-delay": ("", "duration", "3m0s"),
}

#: Ours is another default, on purpose: (command, flag) to the default here.
DELIBERATE: Final = {
    ("dfget", "locallimit"): "0B",
    ("dfdaemon", "ratelimit"): "0B",
    ("supernode", "max-bandwidth"): "0B",
    ("supernode", "system-bandwidth"): "0B",
}

DFGET_KEYS: Final = ("nodes", "localLimit", "minRate", "totalLimit", "clientQueueSize", "workHome", "logConfig")

#: Keys with a section's below, by dots; `[]` is a list of maps.
DFDAEMON_KEYS: Final = (
    "registry_mirror.remote", "registry_mirror.certs", "registry_mirror.insecure", "registry_mirror.direct",
    "proxies[].regx", "proxies[].use_https", "proxies[].direct", "proxies[].redirect",
    "hijack_https.cert", "hijack_https.key",
    "hijack_https.hosts[].regx", "hijack_https.hosts[].insecure", "hijack_https.hosts[].certs",
    "port", "hostIp", "certpem", "keypem", "verbose", "maxprocs", "dfget_flags", "supernodes", "ratelimit", "workHome",
    "localrepo", "dfpath", "logConfig.maxSize", "logConfig.maxBackups", "logConfig.path", "localIP", "peerPort", "streamMode",
)  # fmt: skip

SUPERNODE_KEYS: Final = (
    "base.cdnPattern", "base.listenPort", "base.downloadPort", "base.homeDir", "base.schedulerCorePoolSize", "base.peerUpLimit",
    "base.peerDownLimit", "base.eliminationLimit", "base.failureCountLimit", "base.linkLimit",
    "base.systemReservedBandwidth", "base.maxBandwidth", "base.enableProfiler", "base.debug", "base.advertiseIP",
    "base.failAccessInterval", "base.gcInitialDelay", "base.gcMetaInterval", "base.gcDiskInterval", "base.taskExpireTime",
    "base.peerGCDelay", "base.youngGCThreshold", "base.fullGCThreshold", "base.IntervalThreshold", "base.cleanRatio",
    "base.logConfig.maxSize", "base.logConfig.maxBackups", "base.logConfig.path", "plugins", "storages",
)  # fmt: skip

SUBCOMMANDS: Final = {
    "dfget": ("server", "version", "gen-doc", "help"),
    "dfdaemon": ("gen-ca", "version", "config", "gen-doc", "help"),
    "supernode": ("version", "config", "gen-doc", "help"),
}

#: dfdaemon/constant, those that can come up here.
DFDAEMON_EXIT_CODES: Final = {"FAILED": 1, "CONFIG": 10, "LOCALREPO": 12, "RATE": 13, "PORT": 14, "FOLDER": 16}

#: Why dfget went to the source, those that are alive in 1.x or here.
REASONS: Final = {"NONE": 0, "REGISTER": 1, "DOWNLOAD": 3, "WRITE": 6, "NO_SUPERNODE": 8, "SOURCE": 10, "USER": 100}

# -- files as 1.x's documents have them -----------------------------------------------------------------------------------

DFDAEMON_YML: Final = """\
# This file is the template of dfdaemon configuration file.
registry_mirror:
  # url for the registry mirror
  remote: https://index.docker.io
  # whether to ignore https certificate errors
  insecure: false
  # optional certificates if the remote server uses self-signed certificates
  certs: []
  # whether to request the remote registry directly
  direct: false
proxies:
# proxy all http image layer download requests with dfget
- regx: blobs/sha256.*
# change http requests to some-registry to https, and proxy them with dfget
- regx: some-registry/
  use_https: true
# proxy requests directly, without dfget
- regx: no-proxy-reg
  direct: true
# redirect to another host
- regx: some-host
  redirect: another-host
hijack_https:
  # key pair used to hijack https requests
  cert: {cert}
  key: {key}
  hosts:
  - regx: mirror.aliyuncs.com:443
  - regx: hub-p2p-test.docker.com:32443
    # whether to ignore https certificate errors
    insecure: true
    certs: []
dfget_flags: ["--node","127.0.0.1","--verbose","--ip","127.0.0.1","--port","15001","--expiretime","3m0s","--alivetime","5m0s",\
"-f","filterParam1&filterParam2"]
supernodes:
- 127.0.0.1:1=1
port: 0
hostIp: 127.0.0.1
verbose: true
maxprocs: 10
ratelimit: 20M
localrepo: /root/.small-dragonfly/dfdaemon/data/
dfpath: /root/.small-dragonfly/dfget
logConfig: {{maxSize: 400, maxBackups: 1}}
localIP: 127.0.0.1
peerPort: 0
streamMode: false
"""

DFGET_YML: Final = """\
# Supernodes with their weights
nodes:
- 127.0.0.1:{port}=1
# Speed limits
minRate: 20M
totalLimit: 20M
localLimit: 20M
clientQueueSize: 6
workHome: {home}
logConfig:
  maxSize: 40
  maxBackups: 1
"""

SUPERNODE_YML: Final = """\
base:
  cdnPattern: local
  listenPort: 0
  downloadPort: 0
  homeDir: {home}
  schedulerCorePoolSize: 10
  peerUpLimit: 5
  peerDownLimit: 5
  eliminationLimit: 5
  failureCountLimit: 5
  linkLimit: 20M
  systemReservedBandwidth: 20M
  maxBandwidth: 200M
  enableProfiler: false
  debug: false
  advertiseIP: 127.0.0.1
  failAccessInterval: 3m
  gcInitialDelay: 6s
  gcMetaInterval: 2m
  gcDiskInterval: 15s
  taskExpireTime: 3m
  peerGCDelay: 3m
  youngGCThreshold: 100G
  fullGCThreshold: 5G
  IntervalThreshold: 2h
  cleanRatio: 1
  logConfig:
    maxSize: 40
    maxBackups: 1
plugins: {{}}
"""
