# What "cmake --install" installs: both libraries and the header (component Development, with the
# shared library itself in Runtime), the CMake package, the pkg-config file, the command, its
# completion for bash, and the man pages.
include(CMakePackageConfigHelpers)

install(TARGETS caskade_static caskade_shared EXPORT caskade-targets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT Development
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT Runtime
    NAMELINK_COMPONENT Development)
install(FILES include/caskade.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT Development)

# The CMake package.
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/caskade")
configure_package_config_file(cmake/caskade-config.cmake.in
    "${CMAKE_CURRENT_BINARY_DIR}/caskade-config.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/caskade-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/caskade-config.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/caskade-config-version.cmake" cmake/FindLMDB.cmake
    DESTINATION "${package_dir}" COMPONENT Development)
install(EXPORT caskade-targets NAMESPACE caskade:: DESTINATION "${package_dir}"
    COMPONENT Development)

# The pkg-config file, with a directory given as an absolute path left as it is.
foreach(which libdir includedir)
    string(TOUPPER "CMAKE_INSTALL_${which}" variable)
    if(IS_ABSOLUTE "${${variable}}")
        set(pc_${which} "${${variable}}")
    else()
        set(pc_${which} "\${prefix}/${${variable}}")
    endif()
endforeach()
set(pc_requires "")
if(CASKADE_USES_LMDB)
    set(pc_requires lmdb)
endif()
string(REPLACE "\${prefix}" "\\\${prefix}" pc_libdir "${pc_libdir}")
string(REPLACE "\${prefix}" "\\\${prefix}" pc_includedir "${pc_includedir}")
configure_file(cmake/InstallPkgConfig.cmake.in
    "${CMAKE_CURRENT_BINARY_DIR}/InstallPkgConfig.cmake" @ONLY)
install(SCRIPT "${CMAKE_CURRENT_BINARY_DIR}/InstallPkgConfig.cmake" COMPONENT Development)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/caskade.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT Development)

# The library's man page, and one page per public function that refers to it, so that
# "man cask_put" works.
install(FILES docs/man/caskade.3 DESTINATION "${CMAKE_INSTALL_MANDIR}/man3"
    COMPONENT Development)
file(STRINGS include/caskade.h declarations REGEX "^CASK_API .*cask_[a-z_]+\\(")
foreach(declaration IN LISTS declarations)
    string(REGEX REPLACE ".*[ *](cask_[a-z_]+)\\(.*" "\\1" function "${declaration}")
    file(CONFIGURE OUTPUT "man3/${function}.3" CONTENT ".so man3/caskade.3\n")
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/man3/${function}.3"
        DESTINATION "${CMAKE_INSTALL_MANDIR}/man3" COMPONENT Development)
endforeach()

# The command.
if(TARGET caskade_cli)
    install(TARGETS caskade_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT Runtime)
    install(FILES docs/man/caskade.1 DESTINATION "${CMAKE_INSTALL_MANDIR}/man1"
        COMPONENT Runtime)
    install(FILES cli/completion/caskade.bash RENAME caskade
        DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" COMPONENT Runtime)
endif()
