// The modules whose resource definitions check.sh reads; nothing is compiled.
module sangathan/schemas

go 1.19

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
