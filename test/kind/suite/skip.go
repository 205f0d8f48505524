// SPDX-License-Identifier: Apache-2.0

package suite

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed skip.yaml
var skipFile []byte

// skip is a group of specs that cannot run here.
type skip struct {
	// Specs is a regular expression for their names.
	Specs string `json:"specs"`
	// Because says why.
	Because string `json:"because"`
}

// skips reads the list.
func skips(text []byte) ([]skip, error) {
	var list []skip
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		return nil, fmt.Errorf("read skip.yaml: %w", err)
	}
	for i, s := range list {
		if s.Specs == "" || s.Because == "" {
			return nil, fmt.Errorf("read skip.yaml: entry %d needs specs and because", i+1)
		}
		if _, err := regexp.Compile(s.Specs); err != nil {
			return nil, errors.Join(errors.New("read skip.yaml"), err)
		}
	}
	return list, nil
}

// skipExpression is for all specs of the list, and for more if that is not "".
func skipExpression(more string) (string, error) {
	list, err := skips(skipFile)
	if err != nil {
		return "", err
	}
	var expressions []string
	for _, s := range list {
		expressions = append(expressions, s.Specs)
	}
	if more != "" {
		expressions = append(expressions, more)
	}
	return strings.Join(expressions, "|"), nil
}
