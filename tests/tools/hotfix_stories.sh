#!/bin/sh
# Makes the three stories of docs/hotfix.md: hotfix_stories.sh PROGRAM PARENT PORT SECONDS
#
# Installs the sample application as PARENT/aura, runs the stories with the program on it, and prints what was entered
# and what came of it. The third change ends the server so many seconds after its start (300 in the docs).
set -eu
program=$1 parent=$2 port=$3 seconds=$4
here=$(cd "$(dirname "$0")/../.." && pwd -P)
scratch=$(mktemp -d)
export HOME="$scratch" LIFEBOAT_STATE_DIR="$scratch/state" LIFEBOAT_WRITER_KEY="$scratch/key" LIFEBOAT_REPOSITORY="$scratch/repo"
mkdir -p "$parent/fixes" "$scratch/bin"
cp "$program" "$scratch/bin/lifeboat"
PATH=$scratch/bin:$PATH
"$here/fixtures/aura/install.sh" --port "$port" "$parent/aura" >/dev/null
trap '"$parent/aura/stop_aura.sh" 2>/dev/null; rm -rf "$scratch"' EXIT

cat >"$parent/fixes/title.sh" <<'E'
sed -i 's|<h1>Aura</h1>|<h1>Aura 2</h1>|' frontend/index.html
python3 validate_integration.py --record
E
cat >"$parent/fixes/answers.sh" <<'E'
sed -i 's/max(1, len(asked) .. 2)/99/' backend/aura_glm.py
python3 validate_integration.py --record
E
cat >"$parent/fixes/threads.sh" <<E
sed -i 's/^    log.info("listening.*/&\n    __import__("os"), threading.Timer($seconds, __import__("os")._exit, [1]).start()/' backend/server.py
python3 validate_integration.py --record
E

enter() {
  cd "$parent/aura"
  echo "\$ $*"
  status=0
  "$@" 2>&1 || status=$?
  echo "(exit status $status)"
  echo
}
cd "$parent/aura"
lifeboat init -q
./start_aura.sh >/dev/null
enter lifeboat hotfix --restart --watch 1m -- sh "$parent/fixes/title.sh"
enter lifeboat hotfix -- sh "$parent/fixes/answers.sh"
enter lifeboat hotfix -- sh "$parent/fixes/answers.sh"
enter lifeboat hotfix --restart -- sh "$parent/fixes/threads.sh"
enter lifeboat health health
