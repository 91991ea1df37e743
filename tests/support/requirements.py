"""What the docker tests need of a machine, in words that say what to install. No test lives here."""

import os
import shutil
import sys

_PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io (from Debian 13 on: docker-cli)",
    "docker-registry": "docker-registry",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "openssl": "openssl",
    "perl": "perl",
    "curl": "curl",
    "nginx": "nginx-light",
    "containerd": "containerd",
    "ctr": "containerd",
    "skopeo": "skopeo",
    "podman": "podman",
    "buildah": "buildah",
    "update-ca-certificates": "ca-certificates",
}
#: Where Debian keeps programs of the administrator, which a user's PATH may lack.
PROGRAM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def missing_for_docker_tests() -> list[str]:
    """What is missing, a few words each; empty: the docker tests can run."""
    missing = [] if os.geteuid() == 0 else ["root (network namespaces and mounts need it)"]
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=PROGRAM_PATH) is None:
            missing.append(f"{program} (apt-get install {package})")
    return missing


if __name__ == "__main__":
    found = missing_for_docker_tests()
    print(", ".join(found))
    sys.exit(1 if found else 0)
