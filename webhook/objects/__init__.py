"""What policies may read: Kubernetes objects and the facts of a cluster, as plain data. A surface to rely on."""
