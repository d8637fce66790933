"""Sets of values that people install the chart with, beyond its profiles."""

from __future__ import annotations

from typing import Any

from tests.builders.helm import BUCKET, POSTGRES

Json = dict[str, Any]

_AFFINITY: Json = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu"]}]}
            ]
        }
    }
}
_PLACED: Json = {
    "priorityClassName": "serving",
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "pool", "operator": "Equal", "value": "gpu", "effect": "NoExecute"}],
    "affinity": _AFFINITY,
    "podAnnotations": {"example.com/team": "serving"},
    "podLabels": {"team": "serving"},
    "extraEnv": [
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {
            "name": "LORAPLANE_DEPLOYMENT_KEY",
            "valueFrom": {"secretKeyRef": {"name": "others", "key": "deployment"}},
        },
    ],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/extra", "readOnly": True}],
}

COMBINATIONS: dict[str, Json] = {
    "the chart's own values": {},
    "several controllers on PostgreSQL and S3": {
        "controller": {"replicas": 3},
        "engine": {"replicas": 4},
        **POSTGRES,
        **BUCKET,
    },
    "a URL of the registry in the values": {
        "database": {"url": "postgresql+asyncpg://user:password@db:5432/lora"}
    },
    "the bundled PostgreSQL": {"postgresql": {"enabled": True}, "controller": {"replicas": 2}},
    "Google's storage with a workload identity": {
        "store": {"type": "gcs", "url": "gs://adapters/fleet"},
        "controller": {"serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "w"}}},
        "engine": {"serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "r"}}},
    },
    "Azure's storage with two Secrets": {
        "store": {
            "type": "azure",
            "url": "az://adapters/fleet",
            "existingSecret": "writer",
            "readerSecret": "reader",
            "azure": {"accountName": "loraplane"},
        }
    },
    "MinIO over plain HTTP": {
        "store": {**BUCKET["store"], "s3": {"endpoint": "http://minio.storage.svc:9000"}}
    },
    "the model on a claim, tensor and pipeline parallel": {
        "model": {"source": "pvc", "pvc": {"claimName": "weights", "subPath": "llama"}},
        "engine": {"tensorParallel": 4, "pipelineParallel": 2, "replicas": 2},
    },
    "the model in a folder of the nodes": {
        "model": {"source": "hostPath", "hostPath": {"path": "/srv/models"}, "path": "llama/70b"}
    },
    "a gated model, a claim per engine": {
        "model": {
            "id": "meta-llama/Llama-3.1-8B-Instruct",
            "hub": {"tokenSecret": {"name": "hub"}},
            "cache": {"type": "perEngine"},
        },
        "engine": {"persistence": {"enabled": True, "storageClass": "fast"}},
    },
    "without a network: mirrors and a full cache": {
        "image": {
            "registry": "registry.example.com/loraplane",
            "mirror": "registry.example.com/mirror",
            "pullSecrets": ["registry"],
        },
        "model": {"hub": {"offline": True}, "cache": {"existingClaim": "models"}},
    },
    "a stock vLLM image and an init container": {
        "engine": {
            "plugin": {
                "mode": "initContainer",
                "stockImage": {"digest": "sha256:" + "0123456789abcdef" * 4},
            }
        }
    },
    "Secrets of the cluster's own": {
        "secrets": {"existingSecret": "loraplane"},
        "controller": {"serviceAccount": {"create": False, "name": "mine"}},
        "engine": {"serviceAccount": {"create": False, "name": "default"}},
    },
    "LoraAdapters with some Secrets, and the probe alone": {
        "loraAdapters": {"secrets": {"access": "names", "names": ["hub", "bucket"]}},
        "upgrade": "probe",
    },
    "neither LoraAdapters nor Jobs": {
        "loraAdapters": {"enabled": False},
        "reference": {"runner": "process", "device": "cuda", "gpu": {"count": 1}},
    },
    "pods placed and dressed": {
        "commonLabels": {"cost-centre": "ml"},
        "commonAnnotations": {"example.com/owner": "ml"},
        "controller": _PLACED,
        "engine": _PLACED,
        "reference": _PLACED,
    },
    "nothing kept, nothing budgeted": {
        "secrets": {"keep": False},
        "store": {"pvc": {"keep": False}},
        "controller": {
            "persistence": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
        },
        "engine": {"podDisruptionBudget": {"enabled": False}},
    },
    "Envoy in front": {"front": {"mode": "envoy"}, "engine": {"replicas": 2}},
    "Envoy for the world, watched and scaled by KEDA": {
        "front": {
            "mode": "envoy",
            "tls": {"secretName": "certificate"},
            "service": {
                "type": "LoadBalancer",
                "port": 443,
                "loadBalancerClass": "internal",
                "loadBalancerSourceRanges": ["10.0.0.0/8"],
            },
            **{name: part for name, part in _PLACED.items() if not name.startswith("extra")},
        },
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "runbookBase": "https://docs.example.com"},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Serving"}},
        },
        "autoscaling": {"enabled": True, "kind": "keda", "keda": {"authentication": "prometheus"}},
    },
    "a gateway's inference pool, scaled by an HPA": {
        "front": {
            "mode": "inferencePool",
            "inferencePool": {
                "endpointPicker": {"name": "picker"},
                "gateway": {"name": "public", "namespace": "gateways", "sectionName": "https"},
                "hostnames": ["llm.example.com"],
            },
        },
        "autoscaling": {"enabled": True, "minReplicas": 2},
    },
    "a replay before each upgrade, with a stock image": {
        "replay": {
            "enabled": True,
            "window": {"existingClaim": "windows"},
            "goals": {"limits": {"short": {"gap_p99": 90}}},
            "extraArgs": ["--seed=7"],
        },
        "engine": {**_PLACED, "plugin": {"mode": "initContainer"}},
    },
    "no network policies": {"networkPolicy": {"enabled": False}, "front": {"mode": "envoy"}},
    "network policies to known places": {
        **POSTGRES,
        **BUCKET,
        "networkPolicy": {
            "clients": [],
            "controllerClients": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
            ],
            "prometheus": [],
            "dns": {"to": [{"namespaceSelector": {}}]},
            "kubernetesApi": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [6443]},
            "database": {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "port": 6432},
            "controllerEgress": [{"ports": [{"port": 443}]}],
        },
        "front": {"mode": "envoy"},
    },
}
"""By what they are; each is taken by the chart."""
