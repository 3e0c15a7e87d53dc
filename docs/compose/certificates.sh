#!/bin/sh
# An authority for a trial, and a certificate for each node that is named: what nodes
# show each other. Makes what is missing in DIRECTORY, and nothing twice.
#
#     certificates.sh DIRECTORY NODE...

set -eu
umask 077

directory=$1
shift
days=365
cd "$directory"

if [ ! -e ca.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -days "$days" -subj "/CN=cluster" -keyout ca-key.pem -out ca.new \
        -addext "basicConstraints=critical,CA:TRUE" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
    mv ca.new ca.pem
fi
for node in "$@"; do
    [ ! -e "$node.pem" ] || continue
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=$node" -keyout "$node-key.pem" -out "$node.csr" 2>/dev/null
    printf 'subjectAltName=DNS:%s\nkeyUsage=critical,digitalSignature\n' "$node" \
        >"$node.ext"
    openssl x509 -req -in "$node.csr" -CA ca.pem -CAkey ca-key.pem -days "$days" \
        -extfile "$node.ext" -out "$node.new" 2>/dev/null
    mv "$node.new" "$node.pem"
    rm "$node.csr" "$node.ext"
done
