// SPDX-License-Identifier: Apache-2.0

package install

import corev1 "k8s.io/api/core/v1"

const (
	tokenVolume = "api-access"
	// tokenDir is where client libraries look (kubernetes.io/docs, "Directly accessing
	// the REST API"), tokenSeconds what kubelet asks for where it mounts tokens itself.
	tokenDir     = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenSeconds = 3607
)

// apiAccess is what a pod needs to talk to the API server. Kubelet would give it to all
// containers, of which the forwarder knows no Kubernetes, and is closest to strangers'
// packets: it is mounted where it is needed.
func apiAccess() corev1.Volume {
	return corev1.Volume{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(0o444)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(tokenSeconds))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
		},
	}}}
}
