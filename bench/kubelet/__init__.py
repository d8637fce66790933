"""A small kubelet for one machine: runs the pods that a chart renders as local processes.

What it takes from the pod specification as it is: command, args, environment (fieldRef,
resourceFieldRef, secretKeyRef, configMapKeyRef, envFrom, `$(NAME)`, service links), volumes at
their mount paths (configMap, secret, emptyDir, hostPath, persistentVolumeClaim, projected), working
folder, user, groups, read-only root, dropped capabilities, `allowPrivilegeEscalation`, init
containers, probes, preStop, grace period and restart policy. Each pod has a network namespace, an
address and a host name; each container has mount and process namespaces, so its command is
process 1 as in a real pod. Names are answered by a DNS server that knows the services, and cluster
IPs are relayed to ready pods.

The one substitution: the image is the root file system of this machine, seen through an overlay
whose changes are thrown away, with this interpreter's `bin` folder first in PATH.

Not here: images' own USER and labels, seccomp profiles, resource limits, NetworkPolicies, cgroups,
ephemeral and sidecar containers, `tcpSocket` and `grpc` probes. Needs root.
"""
