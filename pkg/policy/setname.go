// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"encoding/hex"
)

// maxSetName bounds the names of address sets, in bytes: a selector may be many
// kilobytes long.
const maxSetName = 200

// setName returns the canonical text of what a set holds, so that people can
// read it, or if that is too long its beginning and a digest of the whole.
func setName(canonical string) string {
	if len(canonical) <= maxSetName {
		return canonical
	}
	digest := sha256.Sum256([]byte(canonical))
	suffix := "#" + hex.EncodeToString(digest[:])
	return canonical[:maxSetName-len(suffix)] + suffix
}
