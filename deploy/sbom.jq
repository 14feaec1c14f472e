# A CycloneDX document of the build information of Go programs: `go version -m -json`.
def purl: "pkg:golang/\(.Path)@\(.Version)";
map(if type == "array" then .[] else . end) as $programs
| {
    bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
    metadata: {component: {type: "application", name: "belay", version: ($programs[0].Main.Version // "(devel)"), licenses: [{license: {id: "Apache-2.0"}}]}},
    components: ([$programs[].Deps[]? | if .Replace then .Replace else . end | {type: "library", name: .Path, version: .Version, purl: purl, "bom-ref": purl}] | unique_by(.purl))
  }
