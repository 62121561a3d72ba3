#!/bin/sh
# Makes the namespace, and lets it keep closed executions as long as `everstep doctor` wants.
set -eu

tries=0
until temporal operator cluster health; do
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || exit 1
    sleep 2
done
temporal operator namespace describe --namespace "$NAMESPACE" > /dev/null 2>&1 ||
    temporal operator namespace create --namespace "$NAMESPACE" --retention "$RETENTION"
temporal operator namespace update --namespace "$NAMESPACE" --retention "$RETENTION"
