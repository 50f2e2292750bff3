# The layers of src/, checked: cmake -DROOT=DIR -P tests/layers.cmake
#
#  1. A file of src/ includes headers of its own folder and of the folders to the left only:
#     base < io < log < index < shard < merge < store.
#  2. Headers with system calls on files are included by src/io/posix.c alone; in src/base/,
#     pages.c may include sys/mman.h, to reserve address space for the index.
#  3. lmdb.h is included by src/index/container_lmdb.c alone.
#  4. caskade.h is included by src/store/ and by src/base/status.h, which hands the status codes on.
#  5. What is pure stays so: log/record and merge/plan include nothing that does I/O.
#  6. cli/ uses the public header and nothing of src/.
cmake_minimum_required(VERSION 3.25)
set(layers base io log index shard merge store)
set(file_call_headers sys/mman.h fcntl.h unistd.h sys/stat.h sys/file.h sys/uio.h sys/statfs.h
    sys/statvfs.h sys/vfs.h sys/sendfile.h sys/ioctl.h dirent.h linux/falloc.h linux/fs.h)
set(pure log/record.c log/record.h merge/plan.c merge/plan.h)
set(problems "")

macro(problem)
    string(APPEND problems "  src/${file}: ${ARGN}\n")
endmacro()

# Sets ret_headers to what the file includes, as written: <x> or "x".
function(includes_of path ret_headers)
    file(STRINGS "${path}" lines REGEX "^[ \t]*#[ \t]*include")
    set(headers "")
    foreach(line IN LISTS lines)
        if(line MATCHES "include[ \t]*([<\"][^>\"]+[>\"])")
            list(APPEND headers "${CMAKE_MATCH_1}")
        endif()
    endforeach()
    set(${ret_headers} "${headers}" PARENT_SCOPE)
endfunction()

# One include of a system header, as src/io/posix.c is allowed more of them than others.
macro(check_system_header name)
    if("${name}" IN_LIST file_call_headers AND NOT file STREQUAL "io/posix.c"
            AND NOT (file STREQUAL "base/pages.c" AND "${name}" STREQUAL "sys/mman.h"))
        problem("includes <${name}>: system calls on files belong into src/io/posix.c")
    endif()
    if("${name}" STREQUAL "lmdb.h" AND NOT file STREQUAL "index/container_lmdb.c")
        problem("includes lmdb.h: only src/index/container_lmdb.c may")
    endif()
    if("${name}" STREQUAL "caskade.h" AND NOT layer STREQUAL "store"
            AND NOT file STREQUAL "base/status.h")
        problem("includes caskade.h: only src/store/ and src/base/status.h may")
    endif()
endmacro()

macro(check_own_header name)
    string(REGEX REPLACE "/.*" "" other "${name}")
    list(FIND layers "${other}" other_rank)
    if(NOT EXISTS "${ROOT}/src/${name}")
        problem("includes \"${name}\", which is not in src/")
    elseif(other_rank EQUAL -1)
        problem("includes \"${name}\", which is in no layer")
    elseif(other_rank GREATER rank)
        problem("includes \"${name}\": ${other} is above ${layer}")
    elseif(file IN_LIST pure AND NOT other STREQUAL "base" AND NOT other STREQUAL layer)
        problem("includes \"${name}\", but is to stay free of I/O")
    endif()
endmacro()

set(rank -1)
foreach(layer IN LISTS layers)
    math(EXPR rank "${rank} + 1")
    file(GLOB_RECURSE files RELATIVE "${ROOT}/src" "${ROOT}/src/${layer}/*.[ch]")
    foreach(file IN LISTS files)
        includes_of("${ROOT}/src/${file}" headers)
        foreach(header IN LISTS headers)
            string(REGEX REPLACE "[<>\"]" "" name "${header}")
            if(header MATCHES "^\"" AND name MATCHES "/")
                check_own_header("${name}")
            elseif(header MATCHES "^\"" AND NOT name MATCHES "^(caskade|lmdb)\\.h$")
                check_own_header("${layer}/${name}")
            else()
                check_system_header("${name}")
            endif()
        endforeach()
    endforeach()
endforeach()

# A file outside the layers' folders would escape all of the above.
file(GLOB_RECURSE all_files RELATIVE "${ROOT}/src" "${ROOT}/src/*.[ch]")
foreach(file IN LISTS all_files)
    string(REGEX REPLACE "/.*" "" layer "${file}")
    if(NOT layer IN_LIST layers)
        problem("lies in no layer's folder")
    endif()
endforeach()
list(LENGTH all_files file_count)
if(file_count EQUAL 0)
    message(FATAL_ERROR "no source files under ${ROOT}/src")
endif()

file(GLOB_RECURSE cli_files RELATIVE "${ROOT}/src" "${ROOT}/cli/*.[ch]")
foreach(file IN LISTS cli_files)
    includes_of("${ROOT}/src/${file}" headers)
    foreach(header IN LISTS headers)
        string(REGEX REPLACE "[<>\"]" "" name "${header}")
        if(name MATCHES "/" AND EXISTS "${ROOT}/src/${name}")
            problem("includes ${header}: the command uses the public header only")
        endif()
    endforeach()
endforeach()

if(problems)
    message(FATAL_ERROR "layers broken:\n${problems}")
endif()
message(STATUS "${file_count} files of src/ keep to their layers")
