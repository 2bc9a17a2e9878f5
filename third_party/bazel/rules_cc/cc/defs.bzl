"""Bazel's own tools load these rules from here; the native ones serve them."""

cc_binary = native.cc_binary
cc_library = native.cc_library
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
cc_test = native.cc_test
