#!/bin/sh
# Installs the programs that the tests use as peers, where this user may (Debian or Ubuntu, root or sudo without a password).
# Elsewhere it says what is missing, and the tests that need them are skipped with that reason.
set -u
missing=""
command -v storescu >/dev/null 2>&1 || missing="$missing dcmtk"
command -v dciodvfy >/dev/null 2>&1 || missing="$missing dicom3tools"
{ command -v Orthanc || [ -x /usr/sbin/Orthanc ]; } >/dev/null 2>&1 || missing="$missing orthanc"
{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 || missing="$missing chromium"
{ command -v rsyslogd || [ -x /usr/sbin/rsyslogd ]; } >/dev/null 2>&1 || missing="$missing rsyslog rsyslog-gnutls"
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "peers: missing:$missing; tests that need them are skipped"; exit 0
fi
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else
  echo "peers: missing:$missing; may not install them; tests that need them are skipped"; exit 0
fi
echo "peers: installing$missing"
export DEBIAN_FRONTEND=noninteractive
{ $run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 ||
  echo "peers: could not install:$missing; tests that need them are skipped"
exit 0
