# Called by cpack between installing and packing: what Debian asks of each package. Manual pages are
# compressed, copyright and changelog lie in the directory of the package's own name.
foreach(component IN LISTS CPACK_COMPONENTS_ALL)
    string(TOUPPER ${component} upper)
    execute_process(COMMAND ${CPACK_EXITBUS_PACKAGES}/finish
        ${CPACK_TEMPORARY_DIRECTORY}/${component} ${CPACK_DEBIAN_${upper}_PACKAGE_NAME}
        ${CPACK_EXITBUS_VERSION} ${CPACK_EXITBUS_MAINTAINER}
        COMMAND_ERROR_IS_FATAL ANY)
endforeach()
