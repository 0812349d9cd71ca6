# shellcheck shell=bash
# apt on a sources list of our own: nothing of the machine's apt changes.

DEBIAN_MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# own_lists FOLDER SUITE…: OWN becomes the options that make apt use these suites, with its lists in FOLDER.
own_lists() {
	local folder=$1 suite uri
	shift
	mkdir -p "$folder/lists/partial"
	for suite; do
		uri=$DEBIAN_MIRROR
		case $suite in *-security) uri=$DEBIAN_MIRROR-security ;; esac
		printf '%s\n' "Types: deb" "URIs: $uri" "Suites: $suite" "Components: main" "Architectures: amd64" \
			"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" ""
	done >"$folder/debian.sources"
	# shellcheck disable=SC2034 # for who sources this
	OWN=(-o "Dir::Etc::sourcelist=$folder/debian.sources" -o Dir::Etc::sourceparts=/dev/null
		-o "Dir::State::Lists=$folder/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
		-o APT::Sandbox::User=)
}
