"""The Grafana dashboards under helm/loraplane/dashboards, written from typed panels."""
