"""The table of provisioners: a test row for each line of provisioners.json, and for each of its cases."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import facts
from webhook.objects import storage
from webhook.objects.storage import Tie, tie_of_class
from webhook.policy import Object

ROWS: list[tuple[str, Object, str, str]] = [
    ("ebs.csi.aws.com", {}, "one zone", "topology.ebs.csi.aws.com/zone"),
    ("ebs.csi.eks.amazonaws.com", {}, "one zone", "topology.kubernetes.io/zone"),
    ("kubernetes.io/aws-ebs", {}, "one zone", "topology.ebs.csi.aws.com/zone"),
    ("efs.csi.aws.com", {}, "not tied to a zone", ""),
    ("fsx.csi.aws.com", {}, "not tied to a zone", ""),
    ("fsx.openzfs.csi.aws.com", {}, "not tied to a zone", ""),
    ("s3.csi.aws.com", {}, "not tied to a zone", ""),
    ("pd.csi.storage.gke.io", {}, "one zone", "topology.gke.io/zone"),
    ("pd.csi.storage.gke.io", {"replication-type": "regional-pd"}, "2 zones", "topology.gke.io/zone"),
    ("pd.csi.storage.gke.io", {"type": "hyperdisk-balanced-high-availability"}, "2 zones", "topology.gke.io/zone"),
    ("pd.csi.storage.gke.io", {"replication-type": "none"}, "one zone", "topology.gke.io/zone"),
    ("kubernetes.io/gce-pd", {}, "one zone", "topology.gke.io/zone"),
    ("kubernetes.io/gce-pd", {"replication-type": "regional-pd"}, "2 zones", "topology.gke.io/zone"),
    ("filestore.csi.storage.gke.io", {}, "not tied to a zone", ""),
    ("gcsfuse.csi.storage.gke.io", {}, "not tied to a zone", ""),
    ("parallelstore.csi.storage.gke.io", {}, "not tied to a zone", ""),
    ("lustre.csi.storage.gke.io", {}, "not tied to a zone", ""),
    ("disk.csi.azure.com", {}, "one zone", "topology.disk.csi.azure.com/zone"),
    ("disk.csi.azure.com", {"skuname": "Premium_ZRS"}, "not tied to a zone", ""),
    ("disk.csi.azure.com", {"storageaccounttype": "Premium_ZRS"}, "not tied to a zone", ""),
    ("disk.csi.azure.com", {"skuname": "PremiumV2_LRS"}, "one zone", "topology.disk.csi.azure.com/zone"),
    ("disk.csi.azure.com", {"storageaccounttype": "PremiumV2_LRS"}, "one zone", "topology.disk.csi.azure.com/zone"),
    ("kubernetes.io/azure-disk", {}, "one zone", "topology.disk.csi.azure.com/zone"),
    ("kubernetes.io/azure-disk", {"skuname": "Premium_ZRS"}, "not tied to a zone", ""),
    ("kubernetes.io/azure-disk", {"storageaccounttype": "Premium_ZRS"}, "not tied to a zone", ""),
    ("file.csi.azure.com", {}, "not tied to a zone", ""),
    ("kubernetes.io/azure-file", {}, "not tied to a zone", ""),
    ("blob.csi.azure.com", {}, "not tied to a zone", ""),
    ("azurelustre.csi.azure.com", {}, "not tied to a zone", ""),
    ("cinder.csi.openstack.org", {}, "one zone", "topology.cinder.csi.openstack.org/zone"),
    ("kubernetes.io/cinder", {}, "one zone", "topology.cinder.csi.openstack.org/zone"),
    ("block-storage.csi.stackit.cloud", {}, "one zone", "topology.block-storage.csi.stackit.cloud/zone"),
    ("manila.csi.openstack.org", {}, "not tied to a zone", ""),
    ("nfs.manila.csi.openstack.org", {}, "not tied to a zone", ""),
    ("csi.vsphere.vmware.com", {}, "something unknown", ""),
    ("kubernetes.io/vsphere-volume", {}, "something unknown", ""),
    ("named-disk.csi.cloud-director.vmware.com", {}, "not tied to a zone", ""),
    ("csi.hetzner.cloud", {}, "one zone", "csi.hetzner.cloud/location"),
    ("dobs.csi.digitalocean.com", {}, "not tied to a zone", ""),
    ("linodebs.csi.linode.com", {}, "not tied to a zone", ""),
    ("block.csi.vultr.com", {}, "not tied to a zone", ""),
    ("csi.civo.com", {}, "not tied to a zone", ""),
    ("blockvolume.csi.oraclecloud.com", {}, "one zone", "topology.kubernetes.io/zone"),
    ("oracle.com/oci", {}, "one zone", "topology.kubernetes.io/zone"),
    ("fss.csi.oraclecloud.com", {}, "not tied to a zone", ""),
    ("lustre.csi.oraclecloud.com", {}, "not tied to a zone", ""),
    ("vpc.block.csi.ibm.io", {}, "one zone", "topology.kubernetes.io/zone"),
    ("vpc.file.csi.ibm.io", {}, "not tied to a zone", ""),
    ("ibm.io/ibmc-block", {}, "one zone", "topology.kubernetes.io/zone"),
    ("ibm.io/ibmc-file", {}, "not tied to a zone", ""),
    ("powervs.csi.ibm.com", {}, "not tied to a zone", ""),
    ("diskplugin.csi.alibabacloud.com", {}, "one zone", "topology.diskplugin.csi.alibabacloud.com/zone"),
    ("diskplugin.csi.alibabacloud.com", {"type": "cloud_regional_disk_auto"}, "not tied to a zone", ""),
    ("alicloud/disk", {}, "one zone", "topology.kubernetes.io/zone"),
    ("nasplugin.csi.alibabacloud.com", {}, "not tied to a zone", ""),
    ("ossplugin.csi.alibabacloud.com", {}, "not tied to a zone", ""),
    ("cpfsplugin.csi.alibabacloud.com", {}, "not tied to a zone", ""),
    ("localplugin.csi.alibabacloud.com", {}, "one node", "topology.localplugin.csi.alibabacloud.com/hostname"),
    ("local.csi.aliyun.com", {}, "one node", "kubernetes.io/hostname"),
    ("com.tencent.cloud.csi.cbs", {}, "one zone", "topology.com.tencent.cloud.csi.cbs/zone"),
    ("cloud.tencent.com/qcloud-cbs", {}, "one zone", "topology.kubernetes.io/zone"),
    ("com.tencent.cloud.csi.cfs", {}, "not tied to a zone", ""),
    ("com.tencent.cloud.csi.cfsturbo", {}, "not tied to a zone", ""),
    ("com.tencent.cloud.csi.cosfs", {}, "not tied to a zone", ""),
    ("disk-csi-driver.mks.ycloud.io", {}, "one zone", "topology.kubernetes.io/zone"),
    ("yandex.csi.flant.com", {}, "one zone", "topology.kubernetes.io/zone"),
    ("ru.yandex.s3.csi", {}, "not tied to a zone", ""),
    ("csi.scaleway.com", {}, "one zone", "topology.csi.scaleway.com/zone"),
    ("csi.exoscale.com", {}, "one zone", "topology.csi.exoscale.com/zone"),
    ("storage.csi.upcloud.com", {}, "one zone", "topology.kubernetes.io/zone"),
    ("filestorage.csi.upcloud.com", {}, "not tied to a zone", ""),
    ("csi.cloudscale.ch", {}, "one zone", "csi.cloudscale.ch/zone"),
    ("cloud.ionos.com", {}, "something unknown", ""),
    ("bsu.csi.outscale.com", {}, "one zone", "topology.bsu.csi.outscale.com/zone"),
    ("csi.cloudstack.apache.org", {}, "one zone", "topology.csi.cloudstack.apache.org/zone"),
    ("compute.csi.nebius.com", {}, "not tied to a zone", ""),
    ("blk.csi.ncloud.com", {}, "one zone", "topology.kubernetes.io/zone"),
    ("nas.csi.ncloud.com", {}, "not tied to a zone", ""),
    ("everest-csi-provisioner", {}, "one zone", "topology.kubernetes.io/zone"),
    ("everest-csi-provisioner", {"csi.storage.k8s.io/csi-driver-name": "nas.csi.everest.io"}, "not tied to a zone", ""),
    ("everest-csi-provisioner", {"csi.storage.k8s.io/csi-driver-name": "obs.csi.everest.io"}, "not tied to a zone", ""),
    ("everest-csi-provisioner", {"csi.storage.k8s.io/csi-driver-name": "sfs.csi.everest.io"}, "not tied to a zone", ""),
    (
        "everest-csi-provisioner",
        {"csi.storage.k8s.io/csi-driver-name": "sfsturbo.csi.everest.io"},
        "not tied to a zone",
        "",
    ),
    (
        "everest-csi-provisioner",
        {"csi.storage.k8s.io/csi-driver-name": "local.csi.everest.io"},
        "one node",
        "kubernetes.io/hostname",
    ),
    ("disk.csi.everest.io", {}, "one zone", "topology.kubernetes.io/zone"),
    ("nas.csi.everest.io", {}, "not tied to a zone", ""),
    ("obs.csi.everest.io", {}, "not tied to a zone", ""),
    ("sfsturbo.csi.everest.io", {}, "not tied to a zone", ""),
    ("local.csi.everest.io", {}, "one node", "kubernetes.io/hostname"),
    ("csi.proxmox.sinextra.dev", {}, "something unknown", ""),
    ("csi.ovirt.org", {}, "not tied to a zone", ""),
    ("csi.kubevirt.io", {}, "not tied to a zone", ""),
    ("driver.harvesterhci.io", {}, "not tied to a zone", ""),
    ("lvm.driver.harvesterhci.io", {}, "one node", "topology.lvm.csi/node"),
    ("csi.nutanix.com", {}, "not tied to a zone", ""),
    ("csi.trident.netapp.io", {}, "not tied to a zone", ""),
    ("csi.trident.qnap.io", {}, "not tied to a zone", ""),
    ("pure-csi", {}, "not tied to a zone", ""),
    ("pxd.portworx.com", {}, "not tied to a zone", ""),
    ("kubernetes.io/portworx-volume", {}, "not tied to a zone", ""),
    ("csi.hpe.com", {}, "not tied to a zone", ""),
    ("csi-powerstore.dellemc.com", {}, "not tied to a zone", ""),
    ("csi-powermax.dellemc.com", {}, "not tied to a zone", ""),
    ("csi-unity.dellemc.com", {}, "not tied to a zone", ""),
    ("csi-isilon.dellemc.com", {}, "not tied to a zone", ""),
    ("csi-vxflexos.dellemc.com", {}, "not tied to a zone", ""),
    ("csi.san.synology.com", {}, "not tied to a zone", ""),
    ("block.csi.ibm.com", {}, "not tied to a zone", ""),
    ("spectrumscale.csi.ibm.com", {}, "not tied to a zone", ""),
    ("csi.huawei.com", {}, "not tied to a zone", ""),
    ("hspc.csi.hitachi.com", {}, "not tied to a zone", ""),
    ("infinibox-csi-driver", {}, "not tied to a zone", ""),
    ("csi.vastdata.com", {}, "not tied to a zone", ""),
    ("csi.weka.io", {}, "not tied to a zone", ""),
    ("csi.quobyte.com", {}, "not tied to a zone", ""),
    ("beegfs.csi.netapp.com", {}, "not tied to a zone", ""),
    ("csi.juicefs.com", {}, "not tied to a zone", ""),
    ("seaweedfs-csi-driver", {}, "not tied to a zone", ""),
    ("csi.cubefs.com", {}, "not tied to a zone", ""),
    ("linstor.csi.linbit.com", {}, "not tied to a zone", ""),
    ("linstor.csi.linbit.com", {"linstor.csi.linbit.com/allowremotevolumeaccess": "true"}, "not tied to a zone", ""),
    (
        "linstor.csi.linbit.com",
        {"linstor.csi.linbit.com/allowremotevolumeaccess": "false"},
        "one node",
        "linbit.com/hostname",
    ),
    (
        "linstor.csi.linbit.com",
        {"linstor.csi.linbit.com/allowRemoteVolumeAccess": "- fromSame:\n  - topology.kubernetes.io/zone"},
        "something unknown",
        "",
    ),
    ("linstor.csi.linbit.com", {"allowremotevolumeaccess": "true"}, "not tied to a zone", ""),
    ("linstor.csi.linbit.com", {"allowremotevolumeaccess": "false"}, "one node", "linbit.com/hostname"),
    ("linstor.csi.linbit.com", {"allowremotevolumeaccess": "[]"}, "something unknown", ""),
    ("replicated.csi.storage.deckhouse.io", {}, "something unknown", ""),
    ("local.csi.storage.deckhouse.io", {}, "one node", "kubernetes.io/hostname"),
    ("io.openebs.csi-mayastor", {}, "not tied to a zone", ""),
    ("cstor.csi.openebs.io", {}, "not tied to a zone", ""),
    ("jiva.csi.openebs.io", {}, "not tied to a zone", ""),
    ("openebs.io/provisioner-iscsi", {}, "not tied to a zone", ""),
    ("openebs.io/nfsrwx", {}, "not tied to a zone", ""),
    ("openebs.io/local", {}, "one node", "kubernetes.io/hostname"),
    ("local.csi.openebs.io", {}, "one node", "openebs.io/nodename"),
    ("zfs.csi.openebs.io", {}, "one node", "openebs.io/nodeid"),
    ("rawfile.csi.openebs.io", {}, "one node", "kubernetes.io/hostname"),
    ("device.csi.openebs.io", {}, "one node", "kubernetes.io/hostname"),
    ("driver.longhorn.io", {}, "not tied to a zone", ""),
    ("driver.longhorn.io", {"dataLocality": "strict-local"}, "one node", "kubernetes.io/hostname"),
    ("rbd.csi.ceph.com", {}, "not tied to a zone", ""),
    ("rbd.csi.ceph.com", {"topologyConstrainedPools": "[]"}, "one zone", "topology.kubernetes.io/zone"),
    ("rook-ceph.rbd.csi.ceph.com", {}, "not tied to a zone", ""),
    ("rook-ceph.rbd.csi.ceph.com", {"topologyConstrainedPools": "[]"}, "one zone", "topology.kubernetes.io/zone"),
    ("cephfs.csi.ceph.com", {}, "not tied to a zone", ""),
    ("rook-ceph.cephfs.csi.ceph.com", {}, "not tied to a zone", ""),
    ("nfs.csi.ceph.com", {}, "not tied to a zone", ""),
    ("rook-ceph.nfs.csi.ceph.com", {}, "not tied to a zone", ""),
    ("ceph.rook.io/block", {}, "not tied to a zone", ""),
    ("kubernetes.io/rbd", {}, "not tied to a zone", ""),
    ("kubernetes.io/cephfs", {}, "not tied to a zone", ""),
    ("kubernetes.io/glusterfs", {}, "not tied to a zone", ""),
    ("kadalu", {}, "not tied to a zone", ""),
    ("csi.storageos.com", {}, "not tied to a zone", ""),
    ("kubernetes.io/no-provisioner", {}, "one node", "kubernetes.io/hostname"),
    ("rancher.io/local-path", {}, "one node", "kubernetes.io/hostname"),
    ("cluster.local/team-local-path-provisioner", {}, "one node", "kubernetes.io/hostname"),
    ("cluster.local/team-local-path", {}, "one node", "kubernetes.io/hostname"),
    ("k8s.io/minikube-hostpath", {}, "one node", "kubernetes.io/hostname"),
    ("microk8s.io/hostpath", {}, "one node", "kubernetes.io/hostname"),
    ("docker.io/hostpath", {}, "one node", "kubernetes.io/hostname"),
    ("kubernetes.io/host-path", {}, "one node", "kubernetes.io/hostname"),
    ("hostpath.csi.k8s.io", {}, "one node", "topology.hostpath.csi/node"),
    ("kubevirt.io/hostpath-provisioner", {}, "one node", "kubernetes.io/hostname"),
    ("kubevirt.io.hostpath-provisioner", {}, "one node", "topology.hostpath.csi/node"),
    ("cluster.local/team-hostpath-provisioner", {}, "one node", "kubernetes.io/hostname"),
    ("topolvm.io", {}, "one node", "topology.topolvm.io/node"),
    ("topolvm.cybozu.com", {}, "one node", "topology.topolvm.cybozu.com/node"),
    ("directpv-min-io", {}, "one node", "directpv.min.io/node"),
    ("direct-csi-min-io", {}, "one node", "kubernetes.io/hostname"),
    ("lvm.csi.metal-stack.io", {}, "one node", "kubernetes.io/hostname"),
    ("carina.storage.io", {}, "one node", "kubernetes.io/hostname"),
    ("disk.hwameistor.io", {}, "one node", "kubernetes.io/hostname"),
    ("lvm.hwameistor.io", {}, "one node", "kubernetes.io/hostname"),
    ("localdisk.csi.acstor.io", {}, "one node", "kubernetes.io/hostname"),
    ("nfs.csi.k8s.io", {}, "not tied to a zone", ""),
    ("smb.csi.k8s.io", {}, "not tied to a zone", ""),
    ("example.com/nfs", {}, "not tied to a zone", ""),
    ("cluster.local/team-nfs-server-provisioner", {}, "not tied to a zone", ""),
    ("cluster.local/team-nfs-provisioner", {}, "not tied to a zone", ""),
    ("cluster.local/team-nfs-subdir-external-provisioner", {}, "not tied to a zone", ""),
    ("cluster.local/team-nfs-client-provisioner", {}, "not tied to a zone", ""),
    ("fuseim.pri/ifs", {}, "not tied to a zone", ""),
    ("pd.csi.storage.gke.io", {"Replication-Type": "Regional-PD"}, "2 zones", "topology.gke.io/zone"),
    ("pd.csi.storage.gke.io", {"type": "hyperdisk-balanced"}, "one zone", "topology.gke.io/zone"),
    ("disk.csi.azure.com", {"skuName": "StandardSSD_ZRS"}, "not tied to a zone", ""),
    ("driver.longhorn.io", {"dataLocality": "best-effort"}, "not tied to a zone", ""),
    ("driver.longhorn.io", {"datalocality": "strict-local"}, "not tied to a zone", ""),
    (
        "linstor.csi.linbit.com",
        {"allowRemoteVolumeAccess": "false", "placementCount": "3"},
        "3 nodes",
        "linbit.com/hostname",
    ),
    (
        "linstor.csi.linbit.com",
        {"linstor.csi.linbit.com/allowRemoteVolumeAccess": "false", "linstor.csi.linbit.com/autoPlace": "2"},
        "2 nodes",
        "linbit.com/hostname",
    ),
    ("lvm.hwameistor.io", {"replicaNumber": "2"}, "2 nodes", "kubernetes.io/hostname"),
    ("lvm.hwameistor.io", {"replicaNumber": "none"}, "one node", "kubernetes.io/hostname"),
    ("cluster.local/local-path-provisioner", {}, "one node", "kubernetes.io/hostname"),
    ("openshift-storage.rbd.csi.ceph.com", {}, "not tied to a zone", ""),
    ("csi.example.com", {}, "something unknown", ""),
    ("org.democratic-csi.truenas-iscsi", {}, "something unknown", ""),
]
TABLE: dict[str, Any] = msgspec.json.decode(Path(storage.__file__).with_name("provisioners.json").read_bytes())


def made(provisioner: str, parameters: Object) -> Tie:
    metadata = {"name": "fast"}
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata}
    return tie_of_class("fast", facts({**kind, "provisioner": provisioner, "parameters": parameters}))


@pytest.mark.parametrize(("provisioner", "parameters", "says", "key"), ROWS)
def test_provisioners(provisioner: str, parameters: Object, says: str, key: str) -> None:
    tie = made(provisioner, parameters)
    assert (tie.says, tie.keys[0] if tie.keys else "") == (says, key)


def test_the_table_has_no_line_without_a_row() -> None:
    named = [row[0] for row in ROWS]
    lines = TABLE["provisioners"]
    assert [line for line in lines if not any(fnmatchcase(name, line) for name in named)] == []


def test_every_line_added_since_says_where_it_is_written() -> None:
    """The first few, of what everybody knows, don't."""
    lines = [name for name, line in TABLE["provisioners"].items() if "why" not in line]
    assert len(lines) <= 22


@pytest.mark.parametrize(
    ("parameter", "node_labels", "says"),
    [
        pytest.param("az1", {"topology.cinder.csi.openstack.org/zone": "az1"}, "zone az1", id="by-the-driver's-label"),
        pytest.param("az1", {"topology.kubernetes.io/zone": "az1"}, "zone az1", id="by-the-zone-label"),
        pytest.param("nova", {"topology.kubernetes.io/zone": "az1"}, "something unknown", id="a-zone-of-no-node"),
        pytest.param("nova", {}, "something unknown", id="no-zones"),
    ],
)
def test_a_zone_that_the_class_names(parameter: str, node_labels: Object, says: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": node_labels}}
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
    cinder = {**kind, "provisioner": "cinder.csi.openstack.org", "parameters": {"availability": parameter}}
    assert tie_of_class("fast", facts(node, cinder)).says == says
