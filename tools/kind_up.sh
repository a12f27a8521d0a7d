#!/usr/bin/env bash
# Makes the local cluster of kind-config.yaml and installs eod in it; what is there already is kept and brought up to date.
# ACCEPT_EULA=Y says that you accept the licence of SQL Server. --bare makes the cluster alone, for Tilt to fill.
set -euo pipefail
cd "$(dirname "$0")/.."
CLUSTER=eod NAMESPACE=eod CONTEXT=kind-eod IMAGE=eod:dev
say() { printf '[kind-up] %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

bare=0
case "${1:-}" in
  "") ;;
  --bare) bare=1 ;;
  *) die "unknown word '$1': nothing, or --bare" ;;
esac

missing=0
need() { command -v "$1" >/dev/null 2>&1 || { say "$1 is not on PATH: $2"; missing=1; }; }
need docker "install Docker Engine or Docker Desktop, https://docs.docker.com/engine/install/"
need kind "install kind 0.24 or newer, https://kind.sigs.k8s.io/docs/user/quick-start/"
need kubectl "install kubectl, https://kubernetes.io/docs/tasks/tools/"
need helm "install Helm 3.17 or newer, https://helm.sh/docs/intro/install/"
[ "$missing" = 0 ] || die "install what is missing, then run this again"
docker info >/dev/null 2>&1 || die "docker does not answer: start it, and see that 'docker info' works for this user"
if [ "$bare" = 0 ] && [ "${ACCEPT_EULA:-}" != Y ]; then
  die "SQL Server runs only for those who accept its licence, https://go.microsoft.com/fwlink/?linkid=857698: if you do, run this with ACCEPT_EULA=Y"
fi

clusters=$(kind get clusters 2>/dev/null)
if grep -qx "$CLUSTER" <<<"$clusters"; then
  say "the cluster $CLUSTER is there"
else
  say "making the cluster $CLUSTER"
  kind create cluster --config kind-config.yaml --wait 180s
fi
if [ "$bare" = 1 ]; then
  say "ready; next: ACCEPT_EULA=Y tilt up"
  exit 0
fi

make image TAG="$IMAGE"
# A tag for each content: what has changed is rolled by the upgrade, what has not is left alone.
id=$(docker image inspect --format '{{.Id}}' "$IMAGE")
id=${id#sha256:}
tag=dev-${id:0:12}
docker tag "$IMAGE" "eod:$tag"
kind load docker-image "eod:$tag" --name "$CLUSTER"
helm dependency build charts/eod
install() { # release $1 of chart $2; more words of helm after it
  helm upgrade --install "$@" --kube-context "$CONTEXT" --namespace "$NAMESPACE" --create-namespace
}
install eod-crds charts/eod-crds
# A kind that was made this moment has no status yet, which kubectl calls an error instead of waiting.
for try in {1..60}; do
  kubectl --context "$CONTEXT" wait --for=condition=Established crd/eodpipelines.eod.markets --timeout=60s && break
  [ "$try" != 60 ] || die "the API server does not establish crd/eodpipelines.eod.markets"
  sleep 1
done
install eod charts/eod --values tools/kind-values.yaml --set eod-stores.sqlserver.acceptEula=true --timeout 15m \
  --set "image.tag=$tag,eod-operator.image.tag=$tag,eod-stores.image.tag=$tag"

cat >&2 <<NEXT
[kind-up] eod is installed. Next:
  kubectl --context $CONTEXT -n $NAMESPACE get eodp,pods          # the stages wait for their stores, and say so
  .venv/bin/eod explain us-equities -n $NAMESPACE --context $CONTEXT
  .venv/bin/python tools/buttons.py close             # play a market with its close, over FIX on port 9876
  .venv/bin/python tools/buttons.py reconcile         # every store against the log
  make kind-down                                      # delete the cluster and all in it
NEXT
