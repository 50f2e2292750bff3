# Compiler and linker flags shared by the library, the command, the benchmark and the tests.
#
#   caskade_flags(target)       C11, warnings, sanitizers and coverage as the options say
#   caskade_link_flags(target)  for a target without sources of its own: sanitizers and coverage

# The sanitizers of gcc 12 and clang 14 fail at start-up, now and then, where the kernel randomises
# addresses by more than 28 bits. Programs built with them are therefore run without it, where the
# system lets us.
set(CASKADE_TEST_LAUNCHER "")
if(CASKADE_SANITIZE)
    find_program(CASKADE_SETARCH setarch)
    if(CASKADE_SETARCH)
        execute_process(COMMAND "${CASKADE_SETARCH}" -R true RESULT_VARIABLE setarch_result
            OUTPUT_QUIET ERROR_QUIET)
        if(setarch_result EQUAL 0)
            set(CASKADE_TEST_LAUNCHER "${CASKADE_SETARCH};-R")
        endif()
    endif()
endif()

function(caskade_link_flags target)
    if(CASKADE_SANITIZE)
        target_link_options(${target} PUBLIC "-fsanitize=${CASKADE_SANITIZE}")
    endif()
    if(CASKADE_COVERAGE)
        target_link_options(${target} PUBLIC --coverage)
    endif()
endfunction()

function(caskade_flags target)
    set_target_properties(${target} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
        CROSSCOMPILING_EMULATOR "${CASKADE_TEST_LAUNCHER}")
    # Empty, as "#define _GNU_SOURCE" in a file would have it, so that both may be there.
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE=)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef
        $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>)
    if(CASKADE_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(CASKADE_SANITIZE)
        target_compile_options(${target} PRIVATE "-fsanitize=${CASKADE_SANITIZE}"
            -fno-sanitize-recover=all -fno-omit-frame-pointer)
    endif()
    if(CASKADE_COVERAGE)
        # Counted atomically: gcovr refuses the counts below zero that threads else leave.
        target_compile_options(${target} PRIVATE --coverage -fprofile-update=atomic)
    endif()
    caskade_link_flags(${target})
endfunction()
