"""The version, in the one place that is there however the code came: installed, unpacked, or sent to a worker."""

VERSION = "0.2.0.dev0"
