"""The texts as shipped, `<name>.<language>.j2`: there without anybody having set up anything."""
