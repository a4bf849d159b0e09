# Debian packages, by `cpack` in a build directory: one for each component of the install rules.
# Each gets what Debian asks of every package (finish.cmake); tests/proof/93-packages installs,
# uses and purges them in an empty tree.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME exitbus)
set(EXITBUS_MAINTAINER "exitbus authors <exitbus@example.com>" CACHE STRING
    "Name and address for the packages")
set(CPACK_PACKAGE_CONTACT "${EXITBUS_MAINTAINER}")
# cpack's own default: any other text would become the first line of each package's description.
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_NAME} built using CMake")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL lib dev python)
if(EXITBUS_STRESS OR EXITBUS_TOOLS)
    list(APPEND CPACK_COMPONENTS_ALL tools)
endif()

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
math(EXPR next_minor "${PROJECT_VERSION_MINOR} + 1")
set(debian_version ${CPACK_DEBIAN_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})

set(about "Subscribers learn of each exit of a child process in one strict order:
without a lock, without losing one, and with nothing delivered after
they have unsubscribed.")

set(CPACK_DEBIAN_LIB_PACKAGE_NAME libexitbus${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LIB_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIB_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_LIB_DESCRIPTION "lock-free exit-event bus, shared library\n${about}")
# The soname stays through all versions 0.x, their interface does not.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/packages/shlibs CONTENT
    "libexitbus ${PROJECT_VERSION_MAJOR} libexitbus${PROJECT_VERSION_MAJOR} (>= ${PROJECT_VERSION}), libexitbus${PROJECT_VERSION_MAJOR} (<< ${PROJECT_VERSION_MAJOR}.${next_minor}~)\n")
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/packages/triggers CONTENT
    "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIB_PACKAGE_CONTROL_EXTRA
    ${PROJECT_BINARY_DIR}/packages/shlibs ${PROJECT_BINARY_DIR}/packages/triggers)

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libexitbus-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
    "libexitbus${PROJECT_VERSION_MAJOR} (= ${debian_version}), libc6-dev, liburcu-dev")
set(CPACK_DEBIAN_DEV_DESCRIPTION "lock-free exit-event bus, headers and archive\n${about}
.
This package has what programs in C and C++ are compiled with, and the manual.")

# Not by `cmake --install`: pip installs lib/python.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/lib/python/exitbus DESTINATION lib/python3/dist-packages
        COMPONENT python EXCLUDE_FROM_ALL FILES_MATCHING PATTERN "*.py")
set(CPACK_DEBIAN_PYTHON_PACKAGE_NAME python3-exitbus)
set(CPACK_DEBIAN_PYTHON_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS
    "python3 (>= 3.9), libexitbus${PROJECT_VERSION_MAJOR} (>= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PYTHON_DESCRIPTION "lock-free exit-event bus, for Python and asyncio\n${about}")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME exitbus-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "init, forwarder and stress test for exit events\n${about}
.
This package has exitbus-run, a small init and supervisor, exitbus-forward,
which brings exit events to an engine, and exitbus-stress, which judges
exitbus and other event buses.")

set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/finish.cmake)
set(CPACK_EXITBUS_PACKAGES ${CMAKE_CURRENT_LIST_DIR})
set(CPACK_EXITBUS_VERSION ${debian_version})
set(CPACK_EXITBUS_MAINTAINER "${EXITBUS_MAINTAINER}")
include(CPack)
