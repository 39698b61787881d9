"""Functions run on this machine: a launcher, one zygote a prefab version, workers forked from it."""
