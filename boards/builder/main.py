"""PlatformIO's build script: compiles what `intaglio build` lists in build.json and links it."""

import json
import shlex
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
plan = json.loads(Path(env.BoardConfig().get("build.plan")).read_text(encoding="utf-8"))

env.Replace(
    CC=plan["cc"],
    AS=plan["cc"],
    LINK=plan["cc"],
    OBJCOPY=plan["objcopy"],
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
    CCFLAGS=[],
    CFLAGS=[],
    CPPDEFINES=[],
    CPPPATH=[],
    LIBS=[],
    LINKFLAGS=plan["link_flags"],
    # Archives have to follow the objects.
    LINKCOM="$LINK -o $TARGET $LINKFLAGS $SOURCES " + " ".join(plan["link_tail"]),
)

objects = []
for index, group in enumerate(plan["groups"]):
    build = env.Clone(CCFLAGS=[shlex.quote(flag) for flag in group["flags"]])
    for source in group["sources"]:
        target = Path(env.subst("$BUILD_DIR")) / f"group{index}" / f"{Path(source).stem}.o"
        objects.append(build.Object(str(target), source))

elf = env.Program(str(Path(env.subst("$BUILD_DIR")) / "firmware.elf"), objects)
env.Depends(elf, plan["link_inputs"])
binary = env.Command("$BUILD_DIR/firmware.bin", elf, "$OBJCOPY -O binary $SOURCE $TARGET")
ihex = env.Command("$BUILD_DIR/firmware.hex", elf, "$OBJCOPY -O ihex $SOURCE $TARGET")
AlwaysBuild(env.Alias("buildprog", [elf, binary, ihex]))
Default([elf, binary, ihex])
