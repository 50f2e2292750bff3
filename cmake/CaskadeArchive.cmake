# caskade_archive(target objects...): a static library in which only cask_* is visible.
#
# An archive of separate objects would have to leave every internal function global, and
# "segment_append" could then clash with a name of the program that links it. So the objects are
# linked into one relocatable object first, and all of its other symbols are made local.
# In sanitizer and coverage builds, which are never installed, the archive is a plain one: their
# bookkeeping symbols do not survive being made local.

function(caskade_archive target)
    if(CASKADE_SANITIZE OR CASKADE_COVERAGE OR CMAKE_INTERPROCEDURAL_OPTIMIZATION)
        add_library(${target} STATIC ${ARGN})
    else()
        set(merged "${CMAKE_CURRENT_BINARY_DIR}/${target}.o")
        add_custom_command(OUTPUT "${merged}"
            COMMAND "${CMAKE_C_COMPILER}" -r -nostdlib -o "${merged}.tmp" ${ARGN}
            COMMAND "${CMAKE_OBJCOPY}" --wildcard --keep-global-symbol=cask_* "${merged}.tmp"
                "${merged}"
            COMMAND "${CMAKE_COMMAND}" -E rm "${merged}.tmp"
            DEPENDS ${ARGN}
            COMMENT "Linking ${target}.o, in which only cask_* is global"
            COMMAND_EXPAND_LISTS VERBATIM)
        set_source_files_properties("${merged}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
        add_library(${target} STATIC "${merged}")
    endif()
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE C)
endfunction()
